package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// mutant is one changed operator.
type mutant struct {
	id        int    // its number in the rewritten package: its place in the list, or its twin's
	operation string // gremlins' name for what is changed into what
	file      string // without directories
	line, col int    // of the operator, from 1, the column in bytes

	status string // one of those below; empty until it is known
	alone  bool   // cannot be switched on at run time
	offset int    // of the operator in the file
	length int
	text   string // what takes the operator's place
}

// What becomes of a mutant.
const (
	killed     = "KILLED"
	lived      = "LIVED"
	timedOut   = "TIMED OUT"
	notCovered = "NOT COVERED"
	notViable  = "NOT VIABLE" // does not compile
)

// String is the line that gremlins prints.
func (m *mutant) String() string {
	return fmt.Sprintf("%12s %s at %s:%d:%d", m.status, m.operation, m.file, m.line, m.col)
}

var listLine = regexp.MustCompile(`(?m)^ *(RUNNABLE|NOT COVERED) ([A-Z_]+) at (\S+\.go):(\d+):(\d+)\s*$`)

// readList reads the output of gremlins unleash --dry-run.
func readList(name string) ([]*mutant, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var mutants []*mutant
	for _, f := range listLine.FindAllSubmatch(text, -1) {
		m := &mutant{operation: string(f[2]), file: filepath.Base(string(f[3]))}
		if _, ok := operations[m.operation]; !ok {
			return nil, fmt.Errorf("%s: %s is not an operation that this program knows", name, m.operation)
		}
		if m.line, err = strconv.Atoi(string(f[4])); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if m.col, err = strconv.Atoi(string(f[5])); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if string(f[1]) == notCovered {
			m.status = notCovered
		}
		mutants = append(mutants, m)
	}
	if len(mutants) == 0 {
		return nil, fmt.Errorf("%s lists no mutants:\n%s", name, text)
	}
	// Gremlins covers its files at once, and prints as it pleases.
	slices.SortFunc(mutants, func(a, b *mutant) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.col, b.col), cmp.Compare(a.operation, b.operation))
	})
	for i, m := range mutants {
		m.id = i
	}
	return mutants, nil
}
