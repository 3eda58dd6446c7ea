package main

import "go/token"

// operations says what each of gremlins' operations makes of an operator, for
// those that scripts/mutants asks for.
var operations = map[string]map[token.Token]token.Token{
	"ARITHMETIC_BASE": {
		token.ADD: token.SUB, token.SUB: token.ADD,
		token.MUL: token.QUO, token.QUO: token.MUL, token.REM: token.MUL,
	},
	"CONDITIONALS_BOUNDARY": {
		token.LSS: token.LEQ, token.LEQ: token.LSS,
		token.GTR: token.GEQ, token.GEQ: token.GTR,
	},
	"CONDITIONALS_NEGATION": {
		token.EQL: token.NEQ, token.NEQ: token.EQL,
		token.LSS: token.GEQ, token.GEQ: token.LSS,
		token.GTR: token.LEQ, token.LEQ: token.GTR,
	},
	"INCREMENT_DECREMENT": {token.INC: token.DEC, token.DEC: token.INC},
	"INVERT_LOGICAL":      {token.LAND: token.LOR, token.LOR: token.LAND},
	"INVERT_NEGATIVES":    {token.SUB: token.ADD},
}

// helpers are the functions of the rewritten package that stand for operators.
var helpers = map[token.Token]string{
	token.ADD: "add", token.SUB: "sub", token.MUL: "mul", token.QUO: "quo", token.REM: "rem",
	token.LSS: "lt", token.LEQ: "le", token.GTR: "gt", token.GEQ: "ge",
}

// switches is the file that is added to the rewritten package; %s is its name.
// Nobody writes Go names with an underscore, so they hide none. A test binary
// has one mutant on, or none; the file MUTANTS_SEEN, of a byte for each, is
// shared with it, and says which it has come by, even if it is killed.
const switches = `package %s

import (
	mutant_os "os"
	mutant_strconv "strconv"
	mutant_syscall "syscall"
)

var mutant_number = func() int {
	n, err := mutant_strconv.Atoi(mutant_os.Getenv("MUTANTS_ON"))
	if err != nil {
		return -1
	}
	return n
}()

var mutant_seen = func() []byte {
	name := mutant_os.Getenv("MUTANTS_SEEN")
	if name == "" {
		return nil
	}
	f, err := mutant_os.OpenFile(name, mutant_os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		panic(err)
	}
	b, err := mutant_syscall.Mmap(int(f.Fd()), 0, int(info.Size()), mutant_syscall.PROT_READ|mutant_syscall.PROT_WRITE, mutant_syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return b
}()

func mutant_on(id int) bool {
	if mutant_seen != nil {
		mutant_see(id)
	}
	return id == mutant_number
}

//go:noinline
func mutant_see(id int) {
	if id >= 0 {
		mutant_seen[id] = 1
	}
}

type mutant_integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

type mutant_real interface { mutant_integer | ~float32 | ~float64 }

type mutant_any_number interface { mutant_real | ~complex64 | ~complex128 }

type mutant_ordered interface { mutant_real | ~string }

func mutant_add[T mutant_any_number](id int, a, b T) T { if mutant_on(id) { return a - b }; return a + b }
func mutant_sub[T mutant_any_number](id int, a, b T) T { if mutant_on(id) { return a + b }; return a - b }
func mutant_mul[T mutant_any_number](id int, a, b T) T { if mutant_on(id) { return a / b }; return a * b }
func mutant_quo[T mutant_any_number](id int, a, b T) T { if mutant_on(id) { return a * b }; return a / b }
func mutant_rem[T mutant_integer](id int, a, b T) T { if mutant_on(id) { return a * b }; return a %% b }

func mutant_plus[T mutant_any_number](id int, a T) T { if mutant_on(id) { return -a }; return a }
func mutant_minus[T mutant_any_number](id int, a T) T { if mutant_on(id) { return a }; return -a }

func mutant_step[T mutant_real](id int) T { var step T; if mutant_on(id) { step--; return step }; step++; return step }

func mutant_pick[T any](id int, a, b T) T { if mutant_on(id) { return b }; return a }

func mutant_lt[T mutant_ordered](border, negated int, a, b T) bool {
	if mutant_on(border) { return a <= b }
	if mutant_on(negated) { return a >= b }
	return a < b
}
func mutant_le[T mutant_ordered](border, negated int, a, b T) bool {
	if mutant_on(border) { return a < b }
	if mutant_on(negated) { return a > b }
	return a <= b
}
func mutant_gt[T mutant_ordered](border, negated int, a, b T) bool {
	if mutant_on(border) { return a >= b }
	if mutant_on(negated) { return a <= b }
	return a > b
}
func mutant_ge[T mutant_ordered](border, negated int, a, b T) bool {
	if mutant_on(border) { return a > b }
	if mutant_on(negated) { return a < b }
	return a >= b
}
`
