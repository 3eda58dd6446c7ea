package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	duration time.Duration
	rps      float64
	broker   string
	features string
	data     string
	state    string
	serve    string
	role     string
	run      string
	base     string
	slo      time.Duration
	seed     uint64
	json     bool

	network bool          // -fault network
	away    time.Duration // -fault model:away
	crashAt int           // -fault crash:n
}

var roles = []string{"all", "gateway", "features", "cache", "model", "ingest", "load"}

// errUsage is the cause of an error in the flags; the usage has been printed.
var errUsage = errors.New("usage")

// parse reads the flags and refuses what cannot work, in one sentence.
func parse(args []string, out io.Writer) (config, error) {
	var c config
	var fault string
	f := flag.NewFlagSet("recommender", flag.ContinueOnError)
	f.SetOutput(out)
	f.DurationVar(&c.duration, "duration", 45*time.Second, "how long customers visit")
	f.Float64Var(&c.rps, "rps", 500, "visits per second, sent whatever the answers take")
	f.StringVar(&c.broker, "broker", "memory", "memory, or kafka at MAINSTAY_KAFKA_ADDRS")
	f.StringVar(&c.features, "features", "memory", "memory, or redis at MAINSTAY_REDIS_ADDR")
	f.StringVar(&c.data, "data", "", "replay this `file` of the UCI Online Retail data set (.csv or .csv.gz) instead of generated visits")
	f.StringVar(&c.state, "state", "", "`directory` of models and sagas, taken up again by the next run (default: a temporary one)")
	f.StringVar(&c.serve, "serve", "", "`address` of the gateway; it stays up after the load, until interrupted")
	f.StringVar(&c.role, "role", "all", strings.Join(roles, ", "))
	f.StringVar(&c.run, "run", "", "`name` that the roles of one run share (default: a new one, with -role all)")
	f.StringVar(&c.base, "base", "127.0.0.1:18080", "with a single role: `address` of the gateway; the other roles use the ports after it")
	f.StringVar(&fault, "fault", "", "network (slow and sometimes hanging services), model:5s (the model goes away), crash:3 (kill -9 at the third durable write of a rollout)")
	f.DurationVar(&c.slo, "slo", 100*time.Millisecond, "what the 99th percentile must keep")
	f.Uint64Var(&c.seed, "seed", 1, "of everything that is drawn by chance")
	f.BoolVar(&c.json, "json", false, "print one JSON object instead of a table")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, errUsage
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if err := c.fault(fault); err != nil {
		return c, err
	}
	return c, c.check()
}

func (c *config) fault(text string) error {
	kind, value, _ := strings.Cut(text, ":")
	var err error
	switch kind {
	case "":
	case "network":
		c.network = true
	case "model":
		if c.away, err = time.ParseDuration(value); err != nil || c.away <= 0 || c.away > c.duration/2 {
			return fmt.Errorf("-fault %s: want model: and a time up to half of -duration, such as model:5s", text)
		}
	case "crash":
		if c.crashAt, err = strconv.Atoi(value); err != nil || c.crashAt < 1 {
			return fmt.Errorf("-fault %s: want crash: and the number of a durable write, such as crash:3", text)
		}
	default:
		return fmt.Errorf("-fault %s: want network, model:5s or crash:3", text)
	}
	return nil
}

func (c *config) check() error {
	switch {
	case c.duration < time.Second || c.duration > 24*time.Hour:
		return fmt.Errorf("-duration %v: want 1s to 24h", c.duration)
	case !(c.rps >= 1 && c.rps <= 10_000):
		return fmt.Errorf("-rps %v: want 1 to 10000", c.rps)
	case c.broker != "memory" && c.broker != "kafka":
		return fmt.Errorf("-broker %s: want memory or kafka", c.broker)
	case c.features != "memory" && c.features != "redis":
		return fmt.Errorf("-features %s: want memory or redis", c.features)
	case !slices.Contains(roles, c.role):
		return fmt.Errorf("-role %s: want one of %s", c.role, strings.Join(roles, ", "))
	case c.slo <= 0:
		return fmt.Errorf("-slo %v: want more than 0", c.slo)
	case c.role != "all" && (c.broker != "kafka" || c.features != "redis"):
		return fmt.Errorf("-role %s: processes of their own share nothing in memory; add -broker kafka -features redis", c.role)
	case c.role != "all" && c.run == "":
		return fmt.Errorf("-role %s: name the run, the same for all roles and new for each run, such as -run monday-1", c.role)
	}
	if c.run == "" {
		c.run = strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	if len(c.run) > 40 || strings.ContainsFunc(c.run, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) {
		return fmt.Errorf("-run %q: want up to 40 small letters, digits and dashes", c.run)
	}
	for flag, addr := range map[string]string{"-serve": c.serve, "-base": c.base} {
		if addr == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return fmt.Errorf("%s %s: want host:port, such as 127.0.0.1:8080", flag, addr)
		}
	}
	if c.state != "" {
		if info, err := os.Stat(c.state); err == nil && !info.IsDir() {
			return fmt.Errorf("-state %s: is not a directory", c.state)
		}
	}
	return nil
}

// addrs are where the services listen: on free ports when they share this
// process, on the ports after -base when they do not.
func (c *config) addrs() (map[string]string, error) {
	names := []string{"gateway", "users", "items", "cache", "model", "ingest"}
	addrs := map[string]string{}
	if c.role != "all" {
		host, port, err := net.SplitHostPort(c.base)
		if err != nil {
			return nil, err
		}
		first, err := strconv.Atoi(port)
		if err != nil {
			return nil, fmt.Errorf("-base %s: want a port number", c.base)
		}
		for i, name := range names {
			addrs[name] = net.JoinHostPort(host, strconv.Itoa(first+i))
		}
		return addrs, nil
	}
	for _, name := range names {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		addrs[name] = addr
	}
	if c.serve != "" {
		addrs["gateway"] = c.serve
	}
	return addrs, nil
}

// freeAddr asks the system for a loopback port that nobody uses.
func freeAddr() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
