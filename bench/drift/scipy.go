package drift

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
)

// scipy is a Python process that has both samples in memory and compares them as
// often as it is asked to.
type scipy struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

const program = `
import sys, numpy
from scipy.stats import ks_2samp
ref, cur = (numpy.fromfile(name, "<f8") for name in sys.argv[1:])
print("ready", flush=True)
for line in sys.stdin:
    print(repr(float(ks_2samp(ref, cur).statistic)), flush=True)
`

var found sync.Map // interpreter to whether it has SciPy

func hasScipy(ctx context.Context, python string) bool {
	if has, ok := found.Load(python); ok {
		return has.(bool)
	}
	const look = "import importlib.util as u, sys; sys.exit(not (u.find_spec('scipy') and u.find_spec('numpy')))"
	has := exec.CommandContext(ctx, python, "-c", look).Run() == nil
	found.Store(python, has)
	return has
}

// openScipy starts one. Without SciPy it returns nil, which can be closed.
func openScipy(ctx context.Context, python string, ref, cur []float64) (*scipy, error) {
	if !hasScipy(ctx, python) {
		return nil, nil //nolint:nilnil // nil is one that is not there
	}
	var names []string
	defer func() {
		for _, name := range names {
			_ = os.Remove(name)
		}
	}()
	for _, values := range [][]float64{ref, cur} {
		b := make([]byte, 0, 8*len(values))
		for _, x := range values {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		}
		name, err := temp(b)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	//nolint:gosec // who runs the benchmark chooses the interpreter
	s := &scipy{cmd: exec.CommandContext(ctx, python, append([]string{"-c", program}, names...)...)}
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	if line, err := s.out.ReadString('\n'); err != nil || line != "ready\n" {
		s.close()
		return nil, fmt.Errorf("%s does not answer: %q, %w", python, line, err)
	}
	return s, nil
}

// ks asks for one comparison.
func (s *scipy) ks() float64 {
	_, err := io.WriteString(s.in, "\n")
	must(err == nil, err)
	line, err := s.out.ReadString('\n')
	must(err == nil, err)
	var d float64
	_, err = fmt.Sscan(line, &d)
	must(err == nil, line)
	return d
}

func (s *scipy) close() {
	if s == nil {
		return
	}
	_ = s.in.Close()
	_ = s.cmd.Wait()
}
