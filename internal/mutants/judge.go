package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// judge finds out what becomes of each mutant.
type judge struct {
	runner  runner
	builder builder
	pkg     *source
	binary  string
	tests   []*test

	mu    sync.Mutex
	quick map[string]*test // by file: the test that has noticed the latest mutant
}

// judge prints each mutant in the order of the list, as soon as it and those
// before it are known.
func (j *judge) judge(ctx context.Context, mutants []*mutant, out, progress io.Writer) error {
	j.quick = map[string]*test{}
	slices.SortStableFunc(j.tests, func(a, b *test) int { return cmp.Compare(a.cpu, b.cpu) })
	// Twins share a verdict, and the first of them comes by it.
	var todo []*mutant
	for _, m := range mutants {
		if m.status == "" && (m.alone || mutants[m.id] == m) {
			todo = append(todo, m)
		}
	}
	start, told := time.Now(), time.Now()
	var mu sync.Mutex
	var printed, done, living int
	return parallel(ctx, j.runner.workers, len(todo), func(ctx context.Context, i int) error {
		status, err := j.verdict(ctx, todo[i])
		if err != nil {
			return fmt.Errorf("%s at %s:%d:%d: %w", todo[i].operation, todo[i].file, todo[i].line, todo[i].col, err)
		}
		mu.Lock()
		defer mu.Unlock()
		todo[i].status = status
		done++
		if status == lived {
			living++
		}
		for ; printed < len(mutants); printed++ {
			m := mutants[printed]
			if m.status == "" && !m.alone {
				m.status = mutants[m.id].status
			}
			if m.status == "" {
				break
			}
			fmt.Fprintln(out, m)
		}
		if time.Since(told) > 15*time.Second || done == len(todo) {
			told = time.Now()
			fmt.Fprintf(progress, "mutants: %d of %d, %d live, after %s\n", done, len(todo), living, time.Since(start).Round(time.Second))
		}
		return nil
	})
}

func (j *judge) verdict(ctx context.Context, m *mutant) (string, error) {
	if m.alone {
		binary, _, err := j.builder.build(ctx, "mutant"+strconv.Itoa(m.id)+m.operation, j.pkg.with(m))
		if err != nil {
			return "", err
		}
		if binary == "" {
			return notViable, nil
		}
		defer func() { _ = os.Remove(binary) }()
		// Which tests come by it, nobody has recorded.
		return j.against(ctx, binary, m, j.tests)
	}
	var near, far []*test
	for _, t := range j.tests {
		if t.seen[m.id] != 0 {
			near = append(near, t)
		} else {
			far = append(far, t)
		}
	}
	status, err := j.against(ctx, j.binary, m, near)
	if status == lived && j.runner.all && err == nil {
		status, err = j.against(ctx, j.binary, m, far)
	}
	return status, err
}

var failed = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// against runs the tests, the quick ones first and several at a time, until
// one fails.
func (j *judge) against(ctx context.Context, binary string, m *mutant, tests []*test) (string, error) {
	for _, batch := range j.batches(m.file, tests) {
		res, err := j.runner.run(ctx, binary, m.id, "", batch)
		if err != nil {
			return "", err
		}
		if res.passed {
			continue
		}
		name := batch[0].name
		if f := failed.FindStringSubmatch(res.output); f != nil {
			name = f[1]
		}
		j.mu.Lock()
		j.quick[m.file] = nil
		for _, t := range batch {
			if t.name == name {
				j.quick[m.file] = t
			}
		}
		j.mu.Unlock()
		if res.late {
			return timedOut, nil
		}
		return killed, nil
	}
	return lived, nil
}

// batches are what runs in one process each: each computes about as long as those
// before it. What has noticed the latest mutant of the file comes second: its
// neighbours are likely to be noticed by it too.
func (j *judge) batches(file string, tests []*test) [][]*test {
	j.mu.Lock()
	likely := j.quick[file]
	j.mu.Unlock()
	var batches [][]*test
	room, taken := 100*time.Millisecond, time.Duration(0)
	for _, t := range tests {
		if n := len(batches); n > 0 && taken+t.cpu <= room {
			batches[n-1] = append(batches[n-1], t)
			taken += t.cpu
			continue
		}
		if len(batches) > 0 {
			room = max(room, taken) * 2
		}
		batches = append(batches, []*test{t})
		taken = t.cpu
	}
	if i := slices.Index(tests, likely); i >= 0 && len(batches) > 1 && !slices.Contains(batches[0], likely) {
		batches = slices.Insert(batches, 1, []*test{likely})
		for k := 2; k < len(batches); k++ {
			batches[k] = slices.DeleteFunc(batches[k], func(t *test) bool { return t == likely })
		}
		batches = slices.DeleteFunc(batches, func(b []*test) bool { return len(b) == 0 })
	}
	return batches
}
