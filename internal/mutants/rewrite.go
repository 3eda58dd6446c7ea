package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
)

// site is an expression, or x++, that is rewritten for the mutants of its own
// operator; a constant is rewritten as a whole, for those of all its operators.
type site struct {
	node       ast.Node
	start, end int
	mutants    []*mutant
	whole      bool   // a constant
	out        [2]int // where it is in the rewritten text
}

// rewrite returns the text of the package with the mutants in it, each for
// mutant_on to switch on, among them the file of the switches. It says of each
// mutant where it is; whether it is for the source alone; and of those that
// cannot compile that they are not viable.
//
// Whether an expression can be rewritten is for the type checker to say: what
// it refuses is left as it was, and the rest is tried again.
func rewrite(s *source, mutants []*mutant) (map[string][]byte, error) {
	sites, err := find(s, mutants)
	if err != nil {
		return nil, err
	}
	for range 100 {
		text := map[string][]byte{"mutant_switches.go": fmt.Appendf(nil, switches, s.name)}
		for name, was := range s.text {
			w := writer{source: s, name: name, text: was, sites: sites[name]}
			w.expand(0, 0, len(was))
			text[name] = w.out.Bytes()
		}
		_, _, _, errs := s.check(text)
		if len(errs) == 0 {
			return text, nil
		}
		for _, e := range errs {
			at := s.fset.Position(e.Pos)
			refused := innermost(sites[at.Filename], at.Offset)
			if refused < 0 {
				return nil, fmt.Errorf("rewriting %s has broken it: %w", at.Filename, e)
			}
			for _, m := range sites[at.Filename][refused].mutants {
				m.alone = true
			}
			sites[at.Filename] = slices.Delete(sites[at.Filename], refused, refused+1)
		}
	}
	return nil, fmt.Errorf("rewriting %s finds no end", s.name)
}

// innermost returns the last site whose rewritten text holds the offset: the
// sites are in the order of their starts, so what is inside comes later.
func innermost(sites []*site, offset int) int {
	for i, s := range slices.Backward(sites) {
		if s.out[0] <= offset && offset < s.out[1] {
			return i
		}
	}
	return -1
}

type place struct {
	file      string
	line, col int
}

// find returns the sites of each file in the order of their starts, the outer
// before what it holds.
func find(s *source, mutants []*mutant) (map[string][]*site, error) {
	wanted := map[place][]*mutant{}
	for _, m := range mutants {
		at := place{m.file, m.line, m.col}
		wanted[at] = append(wanted[at], m)
	}
	sites := map[string][]*site{}
	for name, f := range s.files {
		v := visitor{source: s, file: name, wanted: wanted}
		ast.Inspect(f, v.visit)
		slices.SortStableFunc(v.sites, func(a, b *site) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
		})
		sites[name] = v.sites
	}
	for _, ms := range wanted {
		for _, m := range ms {
			if m.length == 0 {
				return nil, fmt.Errorf("%s is listed at %s:%d:%d, where %s has no such operator: is the list of another version?", m.operation, m.file, m.line, m.col, s.dir)
			}
		}
	}
	return sites, nil
}

type visitor struct {
	*source
	file   string
	wanted map[place][]*mutant
	sites  []*site
}

func (v *visitor) visit(n ast.Node) bool {
	if e, ok := n.(ast.Expr); ok && v.info.Types[e].Value != nil {
		inside := visitor{source: v.source, file: v.file, wanted: v.wanted}
		ast.Inspect(n, func(n ast.Node) bool { inside.add(n); return true })
		var ms []*mutant
		for _, s := range inside.sites {
			ms = append(ms, s.mutants...)
		}
		if len(ms) > 0 {
			v.keep(n, ms, true)
		}
		return false
	}
	v.add(n)
	return true
}

// add notes the node if its operator has mutants, and in them where it is.
func (v *visitor) add(n ast.Node) {
	var at token.Pos
	var op token.Token
	switch n := n.(type) {
	case *ast.BinaryExpr:
		at, op = n.OpPos, n.Op
	case *ast.UnaryExpr:
		at, op = n.OpPos, n.Op
	case *ast.IncDecStmt:
		at, op = n.TokPos, n.Tok
	default:
		return
	}
	p := v.fset.Position(at)
	var ms []*mutant
	for _, m := range v.wanted[place{v.file, p.Line, p.Column}] {
		becomes, ok := operations[m.operation][op]
		if !ok {
			continue // find tells
		}
		m.offset, m.length, m.text = p.Offset, len(op.String()), becomes.String()
		if len(ms) > 0 && ms[0].text == m.text {
			m.id = ms[0].id // a - b is a + b by two names
		}
		ms = append(ms, m)
	}
	if len(ms) > 0 {
		v.keep(n, ms, false)
	}
}

// keep notes the site, for the mutants that are to be switched.
func (v *visitor) keep(n ast.Node, ms []*mutant, whole bool) {
	start, end := v.fset.Position(n.Pos()).Offset, v.fset.Position(n.End()).Offset
	ms = slices.DeleteFunc(slices.Clone(ms), func(m *mutant) bool { return m.status != "" })
	switch b, ok := n.(*ast.BinaryExpr); {
	case ok && b.Op == token.ADD && v.isString(b):
		for _, m := range ms {
			m.status = notViable
		}
		return
	case ok && b.Op == token.MUL && v.isZero(b.Y), whole && bytes.ContainsRune(v.text[v.file][start:end], '\n'):
		// What is divided by 0 the compiler may refuse; a constant beside itself would move what follows.
		for _, m := range ms {
			m.alone = true
		}
		return
	}
	if len(ms) > 0 {
		v.sites = append(v.sites, &site{node: n, start: start, end: end, mutants: ms, whole: whole})
	}
}

func (v *visitor) isString(e ast.Expr) bool {
	t, ok := v.info.Types[e].Type.Underlying().(*types.Basic)
	return ok && t.Info()&types.IsString != 0
}

func (v *visitor) isZero(e ast.Expr) bool {
	value := v.info.Types[e].Value
	return value != nil && constant.Sign(value) == 0
}

// writer rewrites one file. Line breaks stay where they are: comments, and the
// stacks of panics, are right.
type writer struct {
	*source
	name  string
	text  []byte
	sites []*site
	out   bytes.Buffer
}

// expand writes the text from one offset to another, with the sites in it
// rewritten; those before the first are of the text around it.
func (w *writer) expand(first, from, to int) {
	for i := first; i < len(w.sites) && w.sites[i].start < to; i++ {
		s := w.sites[i]
		if s.start < from || s.end > to {
			continue
		}
		w.out.Write(w.text[from:s.start])
		s.out[0] = w.out.Len()
		w.site(i, s)
		s.out[1] = w.out.Len()
		from = s.end
	}
	w.out.Write(w.text[from:to])
}

// by is the number of the site's mutant that makes text of the operator, and
// -2, which is never on, if there is none.
func (s *site) by(text token.Token) int {
	for _, m := range s.mutants {
		if m.text == text.String() {
			return m.id
		}
	}
	return -2
}

func (w *writer) site(i int, s *site) {
	if s.whole {
		w.constant(s)
		return
	}
	id := s.mutants[0].id
	switch n := s.node.(type) {
	case *ast.IncDecStmt:
		w.expand(i+1, s.start, w.offset(n.TokPos))
		fmt.Fprintf(&w.out, " %c= mutant_step%s(%d)", n.Tok.String()[0], w.instance(w.info.Types[n.X].Type), id)
	case *ast.UnaryExpr:
		name := map[token.Token]string{token.SUB: "minus", token.ADD: "plus"}[n.Op]
		fmt.Fprintf(&w.out, "mutant_%s%s(%d, ", name, w.instance(w.info.Types[n].Type), id)
		w.expand(i+1, w.offset(n.OpPos)+1, s.end)
		w.out.WriteByte(')')
	case *ast.BinaryExpr:
		w.binary(i, s, n, id)
	}
}

func (w *writer) binary(i int, s *site, n *ast.BinaryExpr, id int) {
	op := w.offset(n.OpPos)
	after := op + len(n.Op.String())
	switch n.Op {
	case token.LAND, token.LOR:
		// With on true, (!a && !b) != true is a || b, and as lazy.
		fmt.Fprint(&w.out, "((")
		w.expand(i+1, s.start, w.offset(n.X.End()))
		fmt.Fprintf(&w.out, ") != mutant_on(%d)", id)
		w.out.Write(w.text[w.offset(n.X.End()):after])
		w.out.Write(w.text[after:w.offset(n.Y.Pos())])
		fmt.Fprint(&w.out, "(")
		w.expand(i+1, w.offset(n.Y.Pos()), s.end)
		fmt.Fprintf(&w.out, ") != mutant_on(%d)) != mutant_on(%d)", id, id)
		return
	case token.EQL, token.NEQ:
		fmt.Fprint(&w.out, "((")
		w.expand(i+1, s.start, s.end)
		fmt.Fprintf(&w.out, ") != mutant_on(%d))", id)
		return
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		border, negated := operations["CONDITIONALS_BOUNDARY"][n.Op], operations["CONDITIONALS_NEGATION"][n.Op]
		fmt.Fprintf(&w.out, "mutant_%s%s(%d, %d, ", helpers[n.Op], w.instance(w.info.Types[n.X].Type), s.by(border), s.by(negated))
	default:
		fmt.Fprintf(&w.out, "mutant_%s%s(%d, ", helpers[n.Op], w.instance(w.info.Types[n].Type), id)
	}
	w.expand(i+1, s.start, op)
	w.out.WriteByte(',')
	w.expand(i+1, after, s.end)
	w.out.WriteByte(')')
}

// constant writes the constant as it is, and beside it with each operator
// changed: both are computed by the compiler, exactly, as in the source.
func (w *writer) constant(s *site) {
	e := s.node.(ast.Expr)
	ms := slices.CompactFunc(slices.Clone(s.mutants), func(a, b *mutant) bool { return a.id == b.id })
	for _, m := range slices.Backward(ms) {
		fmt.Fprintf(&w.out, "mutant_pick%s(%d, ", w.instance(w.info.Types[e].Type), m.id)
	}
	w.out.Write(w.text[s.start:s.end])
	for _, m := range ms {
		w.out.WriteByte(',')
		w.out.Write(w.text[s.start:m.offset])
		w.out.WriteString(m.text)
		w.out.Write(w.text[m.offset+m.length : s.end])
		w.out.WriteByte(')')
	}
}

func (w *writer) offset(p token.Pos) int { return w.fset.Position(p).Offset }

// instance is the type argument of a helper, or nothing where the file cannot
// name the type, which is left to be inferred then. It is needed for shifts:
// in x < 1<<n the 1 is of x's type.
func (w *writer) instance(t types.Type) string {
	named := true
	text := types.TypeString(types.Default(t), func(p *types.Package) string {
		if p == w.pkg {
			return ""
		}
		for _, i := range w.files[w.name].Imports {
			if i.Path.Value == `"`+p.Path()+`"` {
				if i.Name != nil {
					return i.Name.Name
				}
				return p.Name()
			}
		}
		named = false
		return ""
	})
	if !named {
		return ""
	}
	return "[" + text + "]"
}
