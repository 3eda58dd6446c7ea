package gbdt

import "math"

// logf is the float32 logarithm of glibc 2.28 and later, bit for bit. XGBoost takes base_score through it, and one wrong bit
// there shifts every margin: rounding math.Log gives another float32 for one argument in 1,700.
//
// The method: x = 2^k·z with z in [0.7, 1.4); of 16 intervals of z one has a centre c with 1/c and log(c) in the table; then
// log(x) = k·ln 2 + log(c) + log1p(z/c - 1), the last by a polynomial of degree four, all in float64 with fused multiply-adds
// (math.FMA, so that the bits do not depend on the machine). Table and coefficients are those of Arm's Optimized Routines,
// Copyright (c) 2017-2018 Arm Limited, SPDX-License-Identifier: MIT; glibc took them from there.
func logf(x float32) float32 {
	bits := math.Float32bits(x)
	switch {
	case x == 0:
		return float32(math.Inf(-1))
	case x < 0 || x != x:
		return float32(math.NaN())
	case math.IsInf(float64(x), 1):
		return x
	case bits < 1<<23: // subnormal: scale into the normal range
		bits = math.Float32bits(x*(1<<23)) - 23<<23
	}
	const low = 0x3f330000 // 0.69921875, the lower end of z
	offset := bits - low
	centre := logfTable[offset>>19%16]
	k := float64(int32(offset) >> 23)
	z := float64(math.Float32frombits(bits - offset&(0x1ff<<23)))

	r := math.FMA(z, centre.inverse, -1)
	r2 := r * r
	whole := math.FMA(k, 0x1.62e42fefa39efp-1, centre.log) + r
	p := math.FMA(0x1.5575b0be00b6ap-2, r, -0x1.ffffef20a4123p-2)
	p = math.FMA(-0x1.00ea348b88334p-2, r2, p)
	return float32(math.FMA(p, r2, whole))
}

var logfTable = [16]struct{ inverse, log float64 }{
	{0x1.661ec79f8f3bep+0, -0x1.57bf7808caadep-2},
	{0x1.571ed4aaf883dp+0, -0x1.2bef0a7c06ddbp-2},
	{0x1.49539f0f010bp+0, -0x1.01eae7f513a67p-2},
	{0x1.3c995b0b80385p+0, -0x1.b31d8a68224e9p-3},
	{0x1.30d190c8864a5p+0, -0x1.6574f0ac07758p-3},
	{0x1.25e227b0b8eap+0, -0x1.1aa2bc79c81p-3},
	{0x1.1bb4a4a1a343fp+0, -0x1.a4e76ce8c0e5ep-4},
	{0x1.12358f08ae5bap+0, -0x1.1973c5a611cccp-4},
	{0x1.0953f419900a7p+0, -0x1.252f438e10c1ep-5},
	{0x1p+0, 0x0p+0},
	{0x1.e608cfd9a47acp-1, 0x1.aa5aa5df25984p-5},
	{0x1.ca4b31f026aap-1, 0x1.c5e53aa362eb4p-4},
	{0x1.b2036576afce6p-1, 0x1.526e57720db08p-3},
	{0x1.9c2d163a1aa2dp-1, 0x1.bc2860d22477p-3},
	{0x1.886e6037841edp-1, 0x1.1058bc8a07ee1p-2},
	{0x1.767dcf5534862p-1, 0x1.4043057b6ee09p-2},
}
