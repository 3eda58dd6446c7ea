package redisstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// maxPartitions bounds the partitions of a topic.
const maxPartitions = 1024

// Options are the settings of a connection to Redis.
type Options struct {
	// Messaging are the options of every broker.
	Messaging messaging.Options
	// Prefix begins the name of every key in Redis. It must be the same in
	// all programs that share topics. Default: "mainstay:".
	Prefix string
	// Lease is how long a member of a group owns its partitions without
	// renewing them, which it does all the time in the background: after a
	// crash they stand still that long. Default: 10 s; at least 500 ms.
	Lease time.Duration
	// Partitions of a topic that is declared, the most members of a group
	// that can work at a time. Default: 8; at most 1024. A topic that exists
	// keeps the number it has.
	Partitions int
	// Retain is how long a message stays after it was published, also when
	// every group has settled it, for groups to come. Default: no longer than
	// needed; negative: for ever, trim the streams yourself. What a group has
	// not settled, and topics without a group, are never trimmed.
	Retain time.Duration
}

// Open checks that the server behind c answers and is fit: Redis 7.0 or later
// that evicts no streams. It returns within ctx, and tries once. The client
// stays the caller's, who closes it after the broker; it needs a pool that is
// larger than the number of consumers. o may be nil.
func Open(ctx context.Context, c redis.UniversalClient, o *Options) (*messaging.Broker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	fail := func(err error) (*messaging.Broker, error) {
		return nil, &messaging.Error{Op: "open", Err: fmt.Errorf("redis: %w", err)}
	}
	switch {
	case c == nil:
		return fail(fmt.Errorf("%w: no client", messaging.ErrConfig))
	case opts.Partitions < 0 || opts.Partitions > maxPartitions:
		return fail(fmt.Errorf("%w: Partitions is %d: 1 to %d are possible, or 0 for 8", messaging.ErrConfig, opts.Partitions, maxPartitions))
	case opts.Lease != 0 && opts.Lease < 500*time.Millisecond:
		return fail(fmt.Errorf("%w: Lease is %v: at least 500 ms, or 0 for 10 s", messaging.ErrConfig, opts.Lease))
	case strings.ContainsAny(opts.Prefix, "{}"):
		return fail(fmt.Errorf("%w: Prefix %q has braces: they are the hash tag's", messaging.ErrConfig, opts.Prefix))
	}
	if opts.Partitions == 0 {
		opts.Partitions = 8
	}
	if opts.Lease == 0 {
		opts.Lease = 10 * time.Second
	}
	if opts.Prefix == "" {
		opts.Prefix = "mainstay:"
	}
	b := &broker{
		client: c, names: names{opts.Prefix}, lease: opts.Lease, partitions: opts.Partitions, retain: opts.Retain,
		known: make(map[string]int), receivers: make(map[*receiver]struct{}),
	}
	held, err := wait.Answer(ctx, b.start, func() (string, error) {
		if err := check(ctx, c); err != nil {
			return "", err
		}
		return heldBy(ctx, c), nil
	}, nil)
	if err != nil {
		return fail(err)
	}
	b.held = held
	return messaging.NewBroker(b, &opts.Messaging), nil
}

func check(ctx context.Context, c redis.UniversalClient) error {
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			major, _, _ := strings.Cut(version, ".")
			if n, err := strconv.Atoi(major); err == nil && n < 7 {
				return fmt.Errorf("%w: the server is Redis %s: 7.0 or later is needed", messaging.ErrConfig, version)
			}
		}
	}
	set, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
	if err != nil {
		return nil
	}
	if policy := set["maxmemory-policy"]; strings.HasPrefix(policy, "allkeys") {
		return fmt.Errorf("%w: maxmemory-policy is %s, which would evict messages: set it to noeviction", messaging.ErrConfig, policy)
	}
	return nil
}

// heldBy asks how much of what the server has confirmed a crash of it takes,
// for Guarantee. Managed servers often refuse to say. It is what was set when
// the broker was opened: CONFIG SET can change it at any time.
func heldBy(ctx context.Context, c redis.UniversalClient) string {
	setting := func(name string) (string, bool) {
		set, err := c.ConfigGet(ctx, name).Result()
		value, ok := set[name]
		return value, err == nil && ok
	}
	appendonly, ok := setting("appendonly")
	appendfsync, known := setting("appendfsync")
	if !ok || !known {
		return persistence("", "")
	}
	return persistence(appendonly, appendfsync)
}

func persistence(appendonly, appendfsync string) string {
	switch {
	case appendonly == "no":
		return "since the last snapshot gone with a crash of the server (appendonly no)"
	case appendonly == "yes" && appendfsync == "always":
		return "on disk when published (appendfsync always)"
	case appendonly == "yes" && appendfsync == "everysec":
		return "on disk within about a second (appendfsync everysec)"
	case appendonly == "yes" && appendfsync == "no":
		return "on disk when the operating system writes it (appendfsync no)"
	}
	return "on disk as the server is set, which it does not tell (appendfsync)"
}
