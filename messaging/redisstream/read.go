package redisstream

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A partition is read with XREADGROUP of two streams, its own and the guard of
// its owner's lease: an empty stream that expires with the lease. The server
// reads nothing unless both are there. So a member that has lost its lease
// cannot read past the next one, and no answer takes the way through a script,
// which costs the server more than reading does.

// readKey is the place of the first key in read's command.
const readKey = 7

// errLost: the lease has ended.
var errLost = errors.New("the partition has another owner")

// errShape is for an answer that neither command nor script gives.
var errShape = errors.New("the server's answer has another shape than that of the question")

func (r *receiver) read(p *partition, count int) *call {
	stream, guard := p.keys[0], p.keys[2]
	return &call{keys: p.keys, args: []any{
		"xreadgroup", "group", r.sub.Group, p.token, "count", count, "streams", stream, guard, ">", ">",
	}}
}

// entries is what read brought, each an ID and its fields. The answer lists
// streams that have some.
func (p *partition) entries(cmd *redis.Cmd) ([]any, error) {
	answer, err := cmd.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case redis.HasErrorPrefix(err, "NOGROUP") && strings.Contains(err.Error(), p.keys[2]):
		return nil, errLost
	case err != nil:
		return nil, err
	}
	switch streams := answer.(type) {
	case map[any]any: // since RESP 3
		if entries, ok := streams[p.stream].([]any); ok {
			return entries, nil
		}
	case []any:
		for _, x := range streams {
			if s, ok := x.([]any); ok && len(s) == 2 && s[0] == p.stream {
				if entries, ok := s[1].([]any); ok {
					return entries, nil
				}
			}
		}
	}
	return nil, errShape
}

// leftover is an entry that a former owner has read.
type leftover struct {
	entry   any
	count   int   // deliveries
	wait    int64 // milliseconds until a retry is due, or -1
	headers string
}

// recovered is what recoverScript found, and where it goes on.
func recovered(cmd *redis.Cmd) (from string, left []leftover, _ error) {
	answer, err := cmd.Result()
	if err != nil {
		return "", nil, err
	}
	if answer == lostReply {
		return "", nil, errLost
	}
	list, _ := answer.([]any)
	if len(list) != 2 {
		return "", nil, errShape
	}
	from, ok := list[0].(string)
	entries, ok2 := list[1].([]any)
	if !ok || !ok2 {
		return "", nil, errShape
	}
	for _, x := range entries {
		e, _ := x.([]any)
		if len(e) != 5 {
			return "", nil, errShape
		}
		count, ok := e[2].(int64)
		wait, ok2 := e[3].(int64)
		headers, ok3 := e[4].(string)
		if !ok || !ok2 || !ok3 {
			return "", nil, fmt.Errorf("%w: of entry %v", errShape, e[0])
		}
		left = append(left, leftover{e[:2], int(count), wait, headers})
	}
	return from, left, nil
}
