package saga_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

type Trip struct {
	City, Hotel, Flight string
}

func bookHotel(_ context.Context, _ saga.Call, t Trip) (string, error) {
	fmt.Println("book a hotel in", t.City)
	return "room 7", nil
}

func cancelHotel(_ context.Context, _ saga.Call, _ Trip, o saga.Outcome[string]) error {
	fmt.Println("cancel", o.Value)
	return nil
}

func buyFlight(_ context.Context, _ saga.Call, t Trip) (string, error) {
	if t.City == "Atlantis" {
		return "", saga.Reject(errors.New("no such airport"))
	}
	fmt.Println("buy a flight to", t.City)
	return "seat 12A", nil
}

var Book = saga.Define("book-trip", 1,
	saga.Before(
		saga.Undoable("hotel", bookHotel, cancelHotel, func(t *Trip, id string) { t.Hotel = id }),
	),
	saga.Pivot("flight", buyFlight, func(t *Trip, id string) { t.Flight = id }),
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	runner, err := saga.NewRunner(saga.NewMemoryStore(), nil, Book)
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx) }()

	for id, city := range []string{"Lisbon", "Atlantis"} {
		trip := fmt.Sprint("trip-", id)
		if err := Book.Start(ctx, runner, trip, Trip{City: city}); err != nil {
			panic(err)
		}
		booked, err := Book.Wait(ctx, runner, trip)
		fmt.Printf("%+v, rolled back: %v\n", booked, errors.Is(err, saga.ErrRolledBack))
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// book a hotel in Lisbon
	// buy a flight to Lisbon
	// {City:Lisbon Hotel:room 7 Flight:seat 12A}, rolled back: false
	// book a hotel in Atlantis
	// cancel room 7
	// {City:Atlantis Hotel:room 7 Flight:}, rolled back: true
	// <nil>
}

// A step that waits for something else to happen is polled.
func ExampleOngoing() {
	polls := 0
	approve := saga.ReadOnly("approve", func(context.Context, saga.Call, Trip) (string, error) {
		if polls++; polls < 3 {
			return "", saga.Ongoing(10 * time.Millisecond)
		}
		return fmt.Sprintf("approved at poll %d", polls), nil
	}, func(t *Trip, answer string) { t.Hotel = answer })
	d := saga.Define("approval", 1, saga.Before(approve), nil)

	ctx, stop := context.WithCancel(context.Background())
	runner, _ := saga.NewRunner(saga.NewMemoryStore(), nil, d)
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx) }()
	_ = d.Start(ctx, runner, "1", Trip{})
	state, err := d.Wait(ctx, runner, "1")
	fmt.Println(state.Hotel, err)
	stop()
	<-ended
	// Output: approved at poll 3 <nil>
}

// A parked saga waits for a person, who looks and decides.
func ExampleRunner_Resolve() {
	pay := saga.Pivot("pay", func(context.Context, saga.Call, Trip) (string, error) {
		return "", errors.New("connection reset")
	}, nil).With(saga.StepOptions{Attempts: 1})
	d := saga.Define("payment", 1, nil, pay)

	ctx, stop := context.WithCancel(context.Background())
	runner, _ := saga.NewRunner(saga.NewMemoryStore(), nil, d)
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx) }()
	_ = d.Start(ctx, runner, "1", Trip{})
	_, err := d.Wait(ctx, runner, "1")
	fmt.Println(errors.Is(err, saga.ErrParked))

	info, _ := runner.Get(ctx, "1")
	fmt.Print(d.Text(&info))
	fmt.Println(runner.Resolve(ctx, "1", "pay", true, "the bank's statement shows it"))
	_, err = d.Wait(ctx, runner, "1")
	fmt.Println(err)
	for e := range runner.History(ctx, "1") {
		fmt.Println("-", e.Step, e.Note)
	}
	stop()
	<-ended
	// Output:
	// true
	// payment version 1, 1: parked (step "pay": unknown outcome after 1 attempts: connection reset)
	//  1. pivot      pay  parked
	// <nil>
	// <nil>
	// -  started
	// - pay unknown outcome after 1 attempts: connection reset
	// - pay resolved as done: the bank's statement shows it
}

func ExampleDefinition_Mermaid() {
	fmt.Print(Book.Mermaid(nil))
	// Output:
	// flowchart LR
	//   s0["hotel"]
	//   s1{{"flight"}}
	//   s0 --> s1
	//   u0(["undo hotel"])
	//   s0 -.- u0
}

func ExampleRunner_List() {
	ctx := context.Background()
	runner, _ := saga.NewRunner(saga.NewMemoryStore(), nil, Book)
	_ = Book.Start(ctx, runner, "trip-1", Trip{City: "Porto"})
	_ = runner.Cancel(ctx, "trip-1", "the customer called")
	for info, err := range runner.List(ctx, saga.Query{Status: []saga.Status{saga.Running}}) {
		fmt.Println(info.ID, info.Status, info.Step, string(info.State), err)
	}
	// Output: trip-1 running hotel {"City":"Porto","Hotel":"","Flight":""} <nil>
}
