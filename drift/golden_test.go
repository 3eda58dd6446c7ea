package drift

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const golden = "testdata/drift-golden.json.gz"

// ours marks a field that is compared; any other text says why it is not.
const ours = ""

// covered says of every kind and field of the golden file what this package
// does with it. A kind or field it does not list fails the test.
var covered = map[string]map[string]string{
	"two_sample": {
		"n": ours, "m": ours, "ties": ours,
		"ks.h": ours, "ks.lcm": ours, "ks.D": ours, "ks.p_exact": ours, "ks.p_exact_ties": ours,
		"ks.p_limit_kolmogorov": ours, "ks.p_asymp_kstwo": ours, "ks.en_rounded": ours,
		"ks.p_exact_src":     "provenance",
		"ks.p_scipy_auto":    "either p_exact or p_asymp_kstwo, by a rule that is scipy's",
		"ks.p_exact_greater": ours, "ks.p_exact_less": ours, "ks.D_plus": ours, "ks.D_minus": ours, "ks.sign": ours,
		"ks.location_lowest": "a Score has no location",
		"pooled_distinct":    "an intermediate", "mean_ref": "an intermediate", "mean_cur": "an intermediate", "ref_std_pop": "an intermediate",
		"wasserstein": ours, "energy_distance": ours,
		"wasserstein_over_ref_std": "the effect is Wasserstein over the interquartile range",
		"cvm.T":                    ours, "cvm.p_asymptotic": ours, "cvm.p_exact": ours,
		"ad.A2_midrank":       ours,
		"ad.A2_right":         "ties are taken by mid-ranks",
		"ad.p_midrank_capped": "interpolated in a table and capped to [0.001, 0.25]; ours is of deals or the limit law",
		"ad.p_right_capped":   "ties are taken by mid-ranks",
	},
	"one_sample_uniform": {
		"n": ours, "D": "the one-sample statistic is not exported; its law is checked at this D", "p_exact": ours, "p_limit": ours,
		"D_plus": "the one-sample statistic is not exported; its law is checked at this D+", "D_minus": "the one-sample statistic is not exported; its law is checked at this D-",
		"p_greater": ours, "p_less": ours,
	},
	"kolmogorov_n": {
		"sf": ours, "sf_high_precision": ours, "sf_one_sided": ours, "cdf": "1 - sf",
	},
	"kolmogorov_limit": {"sf": ours},
	"ks2_exact_p":      {"p_two_sided": ours, "p_one_sided": ours},
	"psi_numeric": merge(map[string]string{
		"ref_missing": ours, "cur_missing": ours,
		"order_right.edges": ours, "order_right.ref_counts": ours, "order_right.cur_counts": ours,
		"order_right.psi_eps1e-4": ours, "order_right.psi_floor1e-4": ours, "order_right.psi_add0.5": ours, "order_right.psi_p": ours,
		"order_right.with_missing_bin.ref_counts": ours, "order_right.with_missing_bin.cur_counts": ours,
		"order_right.with_missing_bin.psi_eps1e-4": ours, "order_right.with_missing_bin.psi_add0.5": ours,
		"atoms_other.values": ours, "atoms_other.ref_counts": ours, "atoms_other.cur_counts": ours,
		"atoms_other.psi_eps1e-4": ours, "atoms_other.psi_floor1e-4": ours, "atoms_other.psi_add0.5": ours,
		"type7_left.edges": "interpolated edges are not offered", "width_left.edges": "equal-width edges are not offered",
		"evidently_sturges.nbins": "another library's binning", "evidently_sturges.lo": "another library's binning",
		"evidently_sturges.hi": "another library's binning", "evidently_sturges.psi": "another library's zero rule",
		"evidently_sturges.ref_counts": "another library's binning", "evidently_sturges.cur_counts": "another library's binning",
	},
		// Their bins are not ours, but PSI of their counts is.
		each(ours, "type7_left.", "width_left.", "ref_counts", "cur_counts", "psi_eps1e-4", "psi_floor1e-4", "psi_add0.5", "psi_p",
			"with_missing_bin.ref_counts", "with_missing_bin.cur_counts", "with_missing_bin.psi_eps1e-4", "with_missing_bin.psi_add0.5"),
	),
	"discrete":           discreteFields(""),
	"categorical":        merge(discreteFields("union."), discreteFields("unseen_merged."), map[string]string{"unseen": ours, "vanished": "a report has no list of categories"}),
	"multiple_testing":   {"bh": ours, "holm": ours, "reject_bh_0.05": ours, "bonferroni": "p times the number of tests", "reject_bonferroni_0.05": "p times the number of tests", "hochberg": "Holm is as easy and needs no independence", "by": ours},
	"chi2_sf":            {"sf": ours, "scipy": "sf has more digits"},
	"mmd_rbf":            {"mmd2_unbiased": ours, "mmd2_biased": "MMD takes the unbiased form"},
	"performance_binary": {"*": "compared by TestPerformanceGolden, field by field"},
	"stream":             {"*": "compared by TestStreamGolden, which has a table of its own"},
}

func discreteFields(prefix string) map[string]string {
	m := each(ours, prefix, "n", "m", "bins", "psi_eps1e-4", "psi_floor1e-4", "psi_add0.5", "psi_p", "psi_null_scale", "psi_crit05", "chi2", "chi2_dof", "chi2_p", "fisher_p",
		"kl_ref_cur", "kl_cur_ref", "js_distance_nat", "js_distance_base2", "js_divergence_nat", "hellinger", "bhattacharyya_coeff", "tv",
		"g", "g_p", "cramers_v", "cramers_v_bias_corrected")
	maps.Copy(m, each("the total variation says more than the largest difference of one bin", prefix, "linf"))
	maps.Copy(m, each("a continuity correction is not offered", prefix, "chi2_yates", "chi2_yates_p"))
	maps.Copy(m, each("another library's zero rule", prefix, "psi_evidently"))
	return m
}

// each gives the names, under each of the prefixes (which end in a dot, or are empty) the same remark.
func each(remark string, words ...string) map[string]string {
	m := map[string]string{}
	for _, prefix := range words {
		if prefix != "" && !strings.HasSuffix(prefix, ".") {
			continue
		}
		for _, name := range words {
			if name != "" && !strings.HasSuffix(name, ".") {
				m[prefix+name] = remark
			}
		}
	}
	return m
}

func merge(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

type goldenCase struct {
	ID, Kind           string
	Bins               int
	Ref, Cur           json.RawMessage
	RefCheck, CurCheck string
	In                 map[string]any
	Expect             map[string]any
}

func (c *goldenCase) UnmarshalJSON(b []byte) error {
	type plain goldenCase
	var checks struct {
		RefCheck string `json:"ref_check"`
		CurCheck string `json:"cur_check"`
	}
	if err := json.Unmarshal(b, &checks); err != nil {
		return err
	}
	if err := json.Unmarshal(b, (*plain)(c)); err != nil {
		return err
	}
	c.RefCheck, c.CurCheck = checks.RefCheck, checks.CurCheck
	return nil
}

func loadGolden(t *testing.T) []goldenCase {
	t.Helper()
	f, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Meta  struct{ Counts map[string]int }
		Cases []goldenCase
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, c := range all.Cases {
		found[c.Kind]++
	}
	if !maps.Equal(found, all.Meta.Counts) {
		t.Fatalf("the file holds %v, its header says %v", found, all.Meta.Counts)
	}
	return all.Cases
}

// flatten gives nested objects dotted names; lists stay values.
func flatten(prefix string, in map[string]any, out map[string]any) {
	for k, v := range in {
		if m, ok := v.(map[string]any); ok {
			flatten(prefix+k+".", m, out)
		} else {
			out[prefix+k] = v
		}
	}
}

func TestGolden(t *testing.T) {
	compared := map[string]int{}
	for _, c := range loadGolden(t) {
		t.Run(c.Kind+"/"+c.ID, func(t *testing.T) {
			fields, ok := covered[c.Kind]
			if !ok {
				t.Fatalf("kind %q is not in the table", c.Kind)
			}
			want := map[string]any{}
			flatten("", c.Expect, want)
			if fields["*"] == "" {
				for name := range want {
					if _, ok := fields[name]; !ok {
						t.Errorf("field %q of %q is not in the table", name, c.Kind)
					}
				}
			}
			check, ok := goldenChecks[c.Kind]
			if !ok {
				for name, why := range fields {
					if why == ours {
						t.Errorf("%q is said to be ours, and there is no check for the kind", name)
					}
				}
				return
			}
			g := &goldenTest{T: t, c: c, want: want, asked: map[string]bool{}}
			check(g)
			for name, v := range want {
				if fields[name] == ours && v != nil && !g.asked[name] && fields["*"] == "" {
					t.Errorf("%q is said to be ours and was not compared", name)
				}
			}
			for name := range g.asked {
				compared[c.Kind]++
				if _, ok := want[name]; !ok {
					t.Errorf("the check asks for %q, which is not there", name)
				}
			}
		})
	}
	t.Logf("compared fields per kind: %v", compared)
}

type goldenTest struct {
	*testing.T

	c     goldenCase
	want  map[string]any
	asked map[string]bool
}

func (g *goldenTest) has(name string) bool { return g.want[name] != nil }

func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case string:
		if v == "Inf" {
			return math.Inf(1)
		}
	case bool:
		if v {
			return 1
		}
		return 0
	}
	return math.NaN()
}

// near compares relatively: tol 0 is equal.
func (g *goldenTest) near(name string, got, tol float64) {
	g.Helper()
	g.asked[name] = true
	want := number(g.want[name])
	if !(math.Abs(got-want) <= tol*math.Abs(want)) {
		g.Errorf("%s = %v, want %v (off by %.2g, %.2g allowed)", name, got, want, math.Abs(got-want)/math.Abs(want), tol)
	}
}

// notOurs says of one case why a field that is ours elsewhere is not compared.
func (g *goldenTest) notOurs(why string, names ...string) {
	for _, name := range names {
		g.Logf("%s is not compared: %s", name, why)
		g.asked[name] = true
	}
}

// close compares absolutely, in units of the value if that is larger than 1.
func (g *goldenTest) close(name string, got, tol float64) {
	g.Helper()
	g.asked[name] = true
	if want := number(g.want[name]); !(math.Abs(got-want) <= tol*max(1, math.Abs(want))) {
		g.Errorf("%s = %v, want %v (%.2g allowed)", name, got, want, tol)
	}
}

func (g *goldenTest) floats(name string, got []float64, tol float64) {
	g.Helper()
	g.asked[name] = true
	want := g.want[name].([]any)
	if len(got) != len(want) {
		g.Errorf("%s has %d values, want %d", name, len(got), len(want))
		return
	}
	for i, w := range want {
		if d := math.Abs(got[i] - number(w)); !(d <= tol*math.Abs(number(w))) {
			g.Errorf("%s[%d] = %v, want %v", name, i, got[i], w)
		}
	}
}

func toFloats(v []int) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func (g *goldenTest) counts(name string) []int {
	g.asked[name] = true
	var out []int
	for _, v := range g.want[name].([]any) {
		out = append(out, int(v.(float64)))
	}
	return out
}

func (g *goldenTest) in(name string) float64 { return number(g.c.In[name]) }

func (g *goldenTest) samples() (ref, cur []float64) {
	g.Helper()
	one := func(raw json.RawMessage, sum string) []float64 {
		if raw == nil {
			return nil
		}
		v := generate(g.T, raw)
		if got := checksum(v); got != sum {
			g.Fatalf("the generated input has checksum %s, want %s", got, sum)
		}
		return v
	}
	return one(g.c.Ref, g.c.RefCheck), one(g.c.Cur, g.c.CurCheck)
}

var goldenChecks = map[string]func(*goldenTest){
	"two_sample": func(g *goldenTest) {
		if n := number(g.want["n"]); brief() && n > 200_000 {
			g.Skip("too large for a run with -short or -race")
		}
		ref, cur := g.samples()
		s := KS(ref, cur)
		a, b := ascending(ref), ascending(cur)
		above, below, ties := maxGap(a, b)
		h := max(above, below)
		_, ms := scaled(len(a), len(b))
		g.near("n", float64(s.N), 0)
		g.near("m", float64(s.M), 0)
		g.near("ties", number(ties), 0)
		g.near("ks.h", float64(h), 0)
		g.near("ks.lcm", float64(int64(len(a))*ms), 0)
		g.near("ks.D", s.Stat, 0x1p-52)
		greater, less := KSGreater(ref, cur), KSGreater(cur, ref)
		g.near("ks.D_plus", greater.Stat, 0x1p-52)
		g.near("ks.D_minus", less.Stat, 0x1p-52)
		sign := 1.0
		if less.Stat > greater.Stat {
			sign = -1
		}
		g.near("ks.sign", sign, 0)
		for name, one := range map[string]struct {
			Score
			h int64
		}{"ks.p_exact_greater": {greater, above}, "ks.p_exact_less": {less, below}} {
			if !g.has(name) {
				continue
			}
			n, m := one.N, one.M
			untied := ksScore(n, m, one.h, refAbove, nil, exactCells)
			g.near(name, untied.P, 1e-12)
			if !strings.HasPrefix(untied.Method, "ks-greater exact") {
				g.Errorf("exact one-sided p-value by %q", untied.Method)
			}
			if !ties && one.P != untied.P {
				g.Errorf("without ties one-sided P = %v, exact %v", one.P, untied.P)
			}
		}
		if s.Effect != s.Stat || !s.HasP {
			g.Errorf("Effect %v, HasP %v for D %v", s.Effect, s.HasP, s.Stat)
		}
		n, m := float64(s.N), float64(s.M)
		en := math.RoundToEven(n * m / (n + m))
		g.near("ks.en_rounded", en, 0)
		g.near("ks.p_limit_kolmogorov", kolmogorovLimit(math.Sqrt(n*m/(n+m))*s.Stat), 1e-12)
		if g.has("ks.p_asymp_kstwo") {
			tol := 1e-10
			if en > 140 {
				tol = 1e-5
			}
			g.near("ks.p_asymp_kstwo", kolmogorovN(en, s.Stat), tol)
		}
		if g.has("ks.p_exact") {
			untied := ksScore(s.N, s.M, h, twoSided, nil, exactCells)
			g.near("ks.p_exact", untied.P, 1e-12)
			if !strings.HasPrefix(untied.Method, "ks exact") {
				g.Errorf("exact p-value by %q", untied.Method)
			}
			if !ties && s.P != untied.P {
				g.Errorf("without ties P = %v, exact %v", s.P, untied.P)
			}
		}
		if g.has("ks.p_exact_ties") {
			g.near("ks.p_exact_ties", s.P, 1e-12)
		}
		g.ranks(ref, cur, ties)
		tol := 1e-11
		if g.c.ID == "dev-two-49-offset-1e9" {
			tol = 1e-6
		}
		g.near("wasserstein", Wasserstein(ref, cur).Stat, tol)
		g.near("energy_distance", Energy(ref, cur).Stat, tol)
		if g.c.Cur != nil && s.Method == "ks one-sample" && g.has("ks.p_asymp_kstwo") {
			g.near("ks.p_asymp_kstwo", s.P, 1e-5)
		}
	},
	"one_sample_uniform": func(g *goldenTest) {
		_, cur := g.samples()
		n, d := float64(len(cur)), number(g.want["D"])
		g.near("n", n, 0)
		tol := 1e-10
		if n > 140 {
			tol = 1e-5
		}
		g.near("p_exact", kolmogorovN(n, d), tol)
		g.near("p_limit", kolmogorovLimit(math.Sqrt(n)*d), 1e-12)
		tol = 1e-10
		if n > 100_000 {
			tol = 1e-6 // the expansion for very many points
		}
		g.near("p_greater", smirnovN(n, number(g.want["D_plus"])), tol)
		g.near("p_less", smirnovN(n, number(g.want["D_minus"])), tol)
	},
	"kolmogorov_n": func(g *goldenTest) {
		n, d := g.in("n"), g.in("d")
		tol := 1e-10
		if n > 140 {
			tol = 1e-5
		}
		g.near("sf", kolmogorovN(n, d), tol)
		if g.has("sf_high_precision") {
			g.near("sf_high_precision", kolmogorovN(n, d), tol)
		}
		g.near("sf_one_sided", smirnovN(n, d), tol)
	},
	"kolmogorov_limit": func(g *goldenTest) { g.near("sf", kolmogorovLimit(g.in("x")), 1e-12) },
	"ks2_exact_p": func(g *goldenTest) {
		n, m, h := int(g.in("n")), int(g.in("m")), int64(g.in("h"))
		g.near("p_two_sided", ksScore(n, m, h, twoSided, nil, exactCells).P, 1e-12)
		g.near("p_one_sided", ksScore(n, m, h, refAbove, nil, exactCells).P, 1e-12)
		g.near("p_one_sided", ksScore(m, n, h, refAbove, nil, exactCells).P, 1e-12)
		if p, ok := ksPaths(n, m, h, twoSided, nil, exactCells); ok {
			g.near("p_two_sided", p, 1e-12)
		}
		if p, ok := ksPaths(n, m, h, refAbove, nil, exactCells); ok {
			g.near("p_one_sided", p, 1e-12)
		}
	},
	"psi_numeric": func(g *goldenTest) {
		ref, cur := g.samples()
		b := &binner{edges: orderEdges(sortedFinite(ref), g.c.Bins)}
		g.floats("order_right.edges", b.edges, 0)
		g.bins("order_right.", b, ref, cur)
		if g.has("atoms_other.values") {
			b = newBinner(sortedFinite(ref), 50)
			g.floats("atoms_other.values", b.atoms, 0)
			g.bins("atoms_other.", b, ref, cur)
		}
		for _, other := range []string{"type7_left.", "width_left."} {
			g.psi(other, g.counts(other+"ref_counts"), g.counts(other+"cur_counts"))
			if g.has(other + "with_missing_bin.ref_counts") {
				g.psi(other+"with_missing_bin.", g.counts(other+"with_missing_bin.ref_counts"), g.counts(other+"with_missing_bin.cur_counts"))
			}
		}
	},
	"discrete": func(g *goldenTest) {
		g.table("", inCounts(g.c.In["ref"]), inCounts(g.c.In["cur"]))
	},
	"categorical": func(g *goldenTest) {
		ref, cur := g.c.In["ref"].(map[string]any), g.c.In["cur"].(map[string]any)
		var r, c []int
		for name, v := range ref {
			r, c = append(r, int(number(v))), append(c, 0)
			if v, ok := cur[name]; ok {
				c[len(c)-1] = int(number(v))
			}
		}
		mergedR, mergedC := slices.Clone(r), slices.Clone(c)
		var unseen []string
		total := 0
		for name, v := range cur {
			if _, ok := ref[name]; !ok {
				unseen = append(unseen, name)
				r, c = append(r, 0), append(c, int(number(v)))
				total += int(number(v))
			}
		}
		mergedR, mergedC = append(mergedR, 0), append(mergedC, total)
		g.table("union.", r, c)
		g.table("unseen_merged.", mergedR, mergedC)
		g.asked["unseen"] = true
		if want := g.want["unseen"].([]any); len(want) != len(unseen) {
			g.Errorf("unseen %v, want %v", unseen, want)
		}
		// The same through a Reference, with "" as missing.
		f := fitted(g.T, Categories("c", repeat(ref)))
		w := newWindow(f)
		for _, s := range repeat(cur) {
			observeCategory(w, s)
		}
		if total > 0 { // otherwise the monitor has no unseen bin, the file an empty one
			o := w.columns[0].observed()
			r, c := w.columns[0].binned(o) // before sparse ones are joined, which the file's are not
			g.near("unseen_merged.psi_add0.5", w.columns[0].psi(r, c, 0, o).Stat, 1e-12)
		}
	},
	"multiple_testing": func(g *goldenTest) {
		var p []float64
		for _, v := range g.c.In["p"].([]any) {
			p = append(p, number(v))
		}
		g.floats("bh", BenjaminiHochberg(p), 1e-14)
		g.floats("holm", Holm(p), 1e-14)
		g.floats("by", BenjaminiYekutieli(p), 1e-14)
		var reject []float64
		for _, q := range BenjaminiHochberg(p) {
			reject = append(reject, number(q <= 0.05))
		}
		g.floats("reject_bh_0.05", reject, 0)
	},
	"mmd_rbf": func(g *goldenTest) {
		ref, cur := g.samples()
		rows := func(v []float64) [][]float64 {
			return slices.Collect(slices.Chunk(v, int(g.in("dim"))))
		}
		// The file gives the kernel's width; MMD finds its own.
		all := mmdRows{slices.Concat(rows(ref), rows(cur))}
		sigma := g.in("sigma")
		block := newMMDBlock(all, sequence(len(all.rows)), len(rows(ref)), 2*sigma*sigma)
		g.close("mmd2_unbiased", block.unbiased(block.within(sequence(len(rows(ref))))), 1e-12)
	},
	"chi2_sf": func(g *goldenTest) { g.near("sf", chiSquareTail(g.in("x"), g.in("df")), 1e-12) },
}

// sixtyDigits are values of the file that were computed in doubles by sums that cancel, computed again with 60 digits.
var sixtyDigits = map[string]float64{
	"dev-disc-12 g":                 0.0074998125164053711603,
	"dev-disc-12 kl_ref_cur":        1.2499583380205208620e-9,
	"dev-disc-12 js_distance_base2": 2.1232779615701722905e-5,
	"dev-disc-12 js_divergence_nat": 2.1232779615701722905e-5 * 2.1232779615701722905e-5 * math.Ln2,
	"dev-disc-12 js_distance_nat":   2.1232779615701722905e-5 * 0.83255461115769775635,
}

func inCounts(v any) []int {
	var out []int
	for _, x := range v.([]any) {
		out = append(out, int(number(x)))
	}
	return out
}

func repeat(counts map[string]any) []string {
	var out []string
	for name, v := range counts {
		for range int(number(v)) {
			out = append(out, name)
		}
	}
	return out
}

// ranks compares Cramer-von Mises and Anderson-Darling.
func (g *goldenTest) ranks(ref, cur []float64, ties bool) {
	g.Helper()
	if g.has("cvm.T") {
		s := CramerVonMises(ref, cur)
		if ties {
			g.notOurs("scipy's T of mid-ranks is not that of (F-G)^2 with ties: 1.2 and p 0.0007 for two equal constants",
				"cvm.T", "cvm.p_asymptotic")
		} else {
			g.close("cvm.T", s.Stat, 1e-9)
			if g.has("cvm.p_exact") {
				g.near("cvm.p_exact", s.P, 1e-12)
			}
			if strings.HasSuffix(s.Method, "exact") {
				g.notOurs("ours is exact here", "cvm.p_asymptotic")
			} else {
				g.close("cvm.p_asymptotic", s.P, 3e-8) // scipy's is 1 less a sum: it has no more digits
			}
		}
	}
	if g.has("ad.A2_midrank") {
		s := AndersonDarling(ref, cur, 1)
		g.close("ad.A2_midrank", (s.Stat-1)/scholzStephensSD(s.N, s.M), 1e-9)
		if want := number(g.want["ad.p_midrank_capped"]); !strings.HasSuffix(s.Method, "exact") && want > 0.001 && want < 0.25 && math.Abs(s.P-want) > 0.15*want+4*math.Sqrt(want/permutations) {
			g.Errorf("Anderson-Darling P = %v by %q, scipy's table %v", s.P, s.Method, want)
		}
	}
}

// scholzStephensSD is the standard deviation of A2 for two samples (their equation 4), by which scipy divides.
func scholzStephensSD(n, m int) float64 {
	total := n + m
	h, g := 0.0, 0.0
	H := 1/float64(n) + 1/float64(m)
	for i := 1; i < total; i++ {
		h += 1 / float64(i)
	}
	inner := 0.0
	for i := total - 2; i >= 1; i-- { // the sum over j > i of 1/((N-i)*j)
		inner += 1 / float64(i+1)
		g += inner / float64(total-i)
	}
	N, k := float64(total), 2.0
	a := (4*g-6)*(k-1) + (10-6*g)*H
	b := (2*g-4)*k*k + 8*h*k + (2*g-14*h-4)*H - 8*h + 4*g - 6
	c := (6*h+2*g-2)*k*k + (4*h-4*g+6)*k + (2*h-6)*H + 4*h
	d := (2*h+6)*k*k - 4*h*k
	return math.Sqrt((a*N*N*N + b*N*N + c*N + d) / ((N - 1) * (N - 2) * (N - 3)))
}

// bins compares a binning, its counts and all that is computed of them.
func (g *goldenTest) bins(prefix string, b *binner, ref, cur []float64) {
	g.Helper()
	r, c := b.counts(ref), b.counts(cur)
	k := len(r) - 1
	g.near("ref_missing", float64(r[k]), 0)
	g.near("cur_missing", float64(c[k]), 0)
	g.floats(prefix+"ref_counts", toFloats(r[:k]), 0)
	g.floats(prefix+"cur_counts", toFloats(c[:k]), 0)
	g.psi(prefix, r[:k], c[:k])
	if g.has(prefix + "with_missing_bin.ref_counts") {
		g.floats(prefix+"with_missing_bin.ref_counts", toFloats(r), 0)
		g.floats(prefix+"with_missing_bin.cur_counts", toFloats(c), 0)
		g.psi(prefix+"with_missing_bin.", r, c)
	}
}

// psi compares PSI under the three rules, where they are given.
func (g *goldenTest) psi(prefix string, r, c []int) {
	g.Helper()
	for name, rule := range map[string]ZeroRule{"psi_eps1e-4": Epsilon, "psi_floor1e-4": Floor, "psi_add0.5": AddHalf} {
		if g.has(prefix + name) {
			g.near(prefix+name, PSICounts(r, c, rule).Stat, 1e-12)
		}
	}
	if g.has(prefix + "psi_p") {
		g.near(prefix+"psi_p", PSICounts(r, c, Epsilon).P, 1e-11)
	}
}

// table compares what is computed of two lists of counts.
func (g *goldenTest) table(prefix string, r, c []int) {
	g.Helper()
	psi, chi := PSICounts(r, c, Epsilon), ChiSquare(r, c)
	g.psi(prefix, r, c)
	g.near(prefix+"n", float64(psi.N), 0)
	g.near(prefix+"m", float64(psi.M), 0)
	g.near(prefix+"bins", float64(len(r)), 0)
	scale := 1/float64(psi.N) + 1/float64(psi.M)
	g.near(prefix+"psi_null_scale", scale, 1e-12)
	if psi.Null == 0 {
		g.near(prefix+"psi_crit05", 0, 0)
	} else {
		g.near(prefix+"psi_crit05", chiSquareQuantile(0.05, psi.Null/scale)*scale, 1e-12)
	}
	if g.has(prefix + "chi2") {
		g.near(prefix+"chi2", chi.Stat, 1e-12)
	} else if chi.HasP {
		g.Errorf("chi-square has a P of %v where none is defined", chi.P)
	}
	js, h, tv, gt := JensenShannon(r, c), Hellinger(r, c), TotalVariation(r, c), GTest(r, c)
	for name, got := range map[string]float64{
		"js_distance_base2": js.Stat, "js_distance_nat": js.Stat * math.Sqrt(math.Ln2), "js_divergence_nat": js.Stat * js.Stat * math.Ln2,
		"hellinger": h.Stat, "bhattacharyya_coeff": 1 - h.Stat*h.Stat, "tv": tv.Stat,
		"g": gt.Stat, "cramers_v": math.Sqrt(chi.Stat / float64(chi.N+chi.M)), "cramers_v_bias_corrected": chi.Effect,
		// The exported one counts half a value more in each bin.
		"kl_ref_cur": kullbackLeibler(r, c, 0), "kl_cur_ref": kullbackLeibler(c, r, 0),
	} {
		digits, better := sixtyDigits[g.c.ID+" "+name]
		switch want := g.want[prefix+name]; {
		case better:
			g.notOurs("the file's value has lost its digits to cancellation; that of a 60-digit calculation is", prefix+name)
			if math.Abs(got-digits) > 1e-12*digits {
				g.Errorf("%s = %v, want %v", prefix+name, got, digits)
			}
		case want == "Inf":
			if g.asked[prefix+name] = true; !math.IsInf(got, 1) {
				g.Errorf("%s = %v, want +Inf", prefix+name, got)
			}
		case want != nil:
			g.close(prefix+name, got, 1e-12)
			g.near(prefix+name, got, 1e-9)
		}
	}
	if g.has(prefix + "g_p") {
		tol := 1e-11
		if g.c.ID == "dev-disc-12" {
			tol = 1e-9
		}
		g.near(prefix+"g_p", gt.P, tol)
	}
	if g.has(prefix + "chi2_dof") {
		g.near(prefix+"chi2_dof", chi.Null, 0)
	}
	if g.has(prefix + "chi2_p") {
		g.near(prefix+"chi2_p", chi.P, 1e-11)
	}
	if g.has(prefix + "fisher_p") {
		g.near(prefix+"fisher_p", fisher(r[0], r[0]+r[1], c[0], c[0]+c[1]), 1e-9)
	}
}

// The golden file's input generators.

type spec struct {
	Gen      string   `json:"gen"`
	N        int      `json:"n"`
	Seed     string   `json:"seed"`
	K        uint64   `json:"k"`
	A        int64    `json:"a"`
	C        int64    `json:"c"`
	M        int64    `json:"m"`
	Start    int64    `json:"start"`
	Step     int64    `json:"step"`
	Value    float64  `json:"value"`
	Quant    *float64 `json:"quant"`
	Scale    *float64 `json:"scale"`
	Shift    *float64 `json:"shift"`
	Tail     *spec    `json:"tail"`
	NaNEvery int      `json:"nan_every"`
}

func generate(t *testing.T, raw json.RawMessage) []float64 {
	t.Helper()
	var s spec
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s.values(t)
}

func (s *spec) values(t *testing.T) []float64 {
	t.Helper()
	var state uint64
	if s.Seed != "" {
		var err error
		if state, err = strconv.ParseUint(s.Seed, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	next := func() uint64 {
		state = state*6364136223846793005 + 1442695040888963407
		return state
	}
	v := make([]float64, s.N)
	for i := range v {
		switch s.Gen {
		case "lcg64":
			v[i] = float64(next()>>11) * 0x1p-53
		case "intmod":
			v[i] = float64((next() >> 33) % s.K)
		case "ih4":
			var sum int64
			for range 4 {
				sum += int64(next() >> 32)
			}
			v[i] = float64(sum-1<<33) * 0x1p-31
		case "ratio":
			u := float64(next()>>11) * 0x1p-53
			v[i] = u / (1 - u)
		case "mulmod":
			v[i] = float64((s.A*int64(i)+s.C)%s.M) / float64(s.M)
		case "arange":
			v[i] = float64(s.Start + int64(i)*s.Step)
		case "const":
			v[i] = s.Value
		default:
			t.Fatalf("unknown generator %q", s.Gen)
		}
		if s.Quant != nil {
			v[i] = math.Floor(float64(v[i]**s.Quant)) / *s.Quant
		}
		if s.Scale != nil {
			v[i] = float64(v[i] * *s.Scale)
		}
		if s.Shift != nil {
			v[i] = float64(v[i] + *s.Shift)
		}
	}
	if s.Tail != nil {
		copy(v[len(v)-s.Tail.N:], s.Tail.values(t))
	}
	if s.NaNEvery > 0 {
		for i := s.NaNEvery - 1; i < len(v); i += s.NaNEvery {
			v[i] = math.NaN()
		}
	}
	return v
}

func checksum(v []float64) string {
	var h uint64
	for i, x := range v {
		b := math.Float64bits(x)
		if x != x {
			b = 0x7FF8000000000001
		}
		h += b * uint64(2*i+1)
	}
	return fmt.Sprintf("%016x", h)
}

func fitted(t testing.TB, columns ...Column) *Reference {
	t.Helper()
	r, err := Fit(columns...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// observeCategory counts as a Categorical does, without a monitor.
func observeCategory(w *window, s string) {
	m := &Monitor{}
	m.live.Store(w)
	w.rows = math.MaxUint64
	(&Categorical{m: m}).Observe(s)
}
