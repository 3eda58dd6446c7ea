package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

func TestOpenSaysWhoDoesNotAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refusing.Close())
	for name, addr := range map[string]string{"silent": silent.Addr().String(), "refusing": refusing.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := kafka.Open(ctx, []string{addr}, nil)
			var e *messaging.Error
			require.ErrorAs(t, err, &e)
			require.ErrorContains(t, err, addr)
		})
	}
}

// A wrong password, none, and one for a broker that asks for none are told from a
// broker that is away, at once, and without the password.
func TestWrongCredentialsEndAtOnce(t *testing.T) {
	as := func(user, password string) *kafka.Options {
		c := sarama.NewConfig()
		c.Net.SASL.Enable, c.Net.SASL.Mechanism = true, sarama.SASLTypePlaintext
		c.Net.SASL.User, c.Net.SASL.Password = user, password
		return &kafka.Options{Sarama: c}
	}
	guarded := servertest.KafkaSASL(t)
	for _, x := range []struct {
		name, addr string
		options    *kafka.Options
		says       string
	}{
		{"wrong password", guarded, as("mainstay", "secret-word"), "SASL"},
		{"unknown user", guarded, as("nobody", "secret-word"), "SASL"},
		{"none", guarded, nil, "Net.TLS and Net.SASL"},
		{"not asked for", servertest.Kafka(t)[0], as("mainstay", "secret-word"), "SASL"},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := kafka.Open(ctx, []string{x.addr}, x.options)
			var e *messaging.Error
			require.ErrorAs(t, err, &e)
			require.ErrorContains(t, err, x.says)
			require.NotContains(t, err.Error(), "secret-word")
			require.NoError(t, ctx.Err(), "at once")
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := kafka.Open(ctx, []string{guarded}, as("mainstay", "mainstay"))
	require.NoError(t, err)
	require.NoError(t, b.Health(ctx))
	require.NoError(t, b.Close(ctx))
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	old := sarama.NewConfig()
	old.Version = sarama.V2_1_0_0
	invalid := sarama.NewConfig()
	invalid.ClientID = "not a name!"
	invalid.Version = sarama.V2_4_0_0
	invalid.Net.SASL.Enable = true
	for name, o := range map[string]*kafka.Options{
		"partitions": {Partitions: -1}, "old version": {Sarama: old}, "what the client refuses": {Sarama: invalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kafka.Open(t.Context(), []string{"127.0.0.1:1"}, o)
			require.ErrorIs(t, err, messaging.ErrConfig)
		})
	}
	_, err := kafka.Open(t.Context(), nil, nil)
	require.ErrorIs(t, err, messaging.ErrConfig)
}

func TestALateConfirmationIsUnknown(t *testing.T) {
	wire := newWires(t)
	b := open(t, servertest.Kafka(t), wire, messaging.Declare)
	defer b.Close(context.Background())
	topic := fmt.Sprintf("late-%d", time.Now().UnixNano())
	require.NoError(t, b.Publisher().Publish(t.Context(), &messaging.Message{Topic: topic, Body: []byte("1")}))
	ended := make(chan struct{})
	go func() {
		wire.cut(time.Second)
		close(ended)
	}()
	m := &messaging.Message{Topic: topic, Body: []byte("2")}
	var err error
	for err == nil { // the cut may come a moment late
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err = b.Publisher().Publish(ctx, m)
		cancel()
	}
	require.ErrorIs(t, err, messaging.ErrUnknown)
	<-ended
	require.Eventually(t, func() bool { return b.Publisher().Publish(t.Context(), m) == nil }, 20*time.Second, 50*time.Millisecond)
}

func TestAMissingTopicIsRefusedByName(t *testing.T) {
	b := open(t, servertest.Kafka(t), nil, messaging.Verify)
	defer b.Close(context.Background())
	err := b.Publisher().Publish(t.Context(), &messaging.Message{Topic: "no-such-topic", Body: []byte("1")})
	require.ErrorIs(t, err, messaging.ErrUnroutable)
	require.ErrorContains(t, err, "no-such-topic")
}

// The broker refuses a batch that is over the topic's limit; the client knows
// only its own.
func TestATopicWithALowerLimit(t *testing.T) {
	addrs := servertest.Kafka(t)
	topic, limit := fmt.Sprintf("small-%d", time.Now().UnixNano()), "4000"
	admin, err := sarama.NewClusterAdmin(addrs, sarama.NewConfig())
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.CreateTopic(topic, &sarama.TopicDetail{
		NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"max.message.bytes": &limit},
	}, false))
	b := open(t, addrs, nil, messaging.Verify)
	defer b.Close(context.Background())
	d, msgs := b.Driver(), make([]driver.Message, 20)
	for i := range msgs {
		msgs[i] = driver.Message{ID: fmt.Sprint(i), Topic: topic, Time: time.Now(), Body: bytes.Repeat([]byte{'x'}, 1000)}
	}
	msgs[7].Body = make([]byte, 8000)
	for i, err := range d.Publish(t.Context(), msgs) {
		if i == 7 {
			require.ErrorIs(t, err, driver.ErrTooLarge)
		} else {
			require.NoError(t, err, "message %d of 1000 bytes", i)
		}
	}
}
