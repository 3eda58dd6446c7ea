package redisstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/redis/go-redis/v9"
)

// A stored row, numbers big endian:
//
//	0   format, 1
//	1   flags; bit 0: deleted
//	2   event: seconds (high 4 bytes, signed; low 4 bytes), nanoseconds (4)
//	14  created: likewise
//	26  seq (high 4 bytes, signed; low 4 bytes)
//	34  rev (high 4 bytes; low 4 bytes)
//	42  length of the fingerprint, 1 byte; fingerprint; payload
//
// Lua has only doubles, in which two times of one second, as one number of
// nanoseconds, can be equal, and it compares strings by the server's locale. So
// a version is compared as eight numbers of four bytes each, and payloads byte
// by byte.
const (
	format    = 1
	deleted   = 1
	revAt     = 34
	headerLen = 42
)

// script stores ARGV[1] under KEYS[1]. ARGV[2] is the expiry in milliseconds, 0
// for none; ARGV[3] the revision to swap, or -1 to write what is newer. It
// returns a featurestore.Outcome. Only the header of the stored row is read,
// and its payload where two versions are equal.
var script = redis.NewScript(`
local value, ttl, expect = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local old = redis.call('GETRANGE', KEYS[1], 0, 41)
local rev, outcome = 0, 1
if old ~= '' then
  if #old < 42 or string.byte(old, 1) ~= 1 then
    return redis.error_reply('ERR the stored row has another format than this version writes')
  end
  local a = {struct.unpack('>i4I4I4i4I4I4i4I4I4I4', old, 3)}
  rev = a[9] * 4294967296 + a[10]
  if expect == -1 then
    local b = {struct.unpack('>i4I4I4i4I4I4i4I4', value, 3)}
    outcome = 3
    for i = 1, 8 do
      if a[i] ~= b[i] then
        outcome = b[i] > a[i] and 1 or 2
        break
      end
    end
    if outcome == 3 then
      old = redis.call('GET', KEYS[1])
      local function content(v) return string.sub(v, 2, 2) .. string.sub(v, 44 + string.byte(v, 43)) end
      local x, y = content(old), content(value)
      if x ~= y then
        local i = 1
        while string.byte(x, i) == string.byte(y, i) do i = i + 1 end
        outcome = (string.byte(y, i) or -1) > (string.byte(x, i) or -1) and 1 or 2
      end
    end
  end
end
if expect ~= -1 and expect ~= rev then outcome = 2 end
if outcome == 1 then
  rev = rev + 1
  value = string.sub(value, 1, 34) .. struct.pack('>I4I4', math.floor(rev / 4294967296), rev % 4294967296) .. string.sub(value, 43)
  if ttl > 0 then
    redis.call('SET', KEYS[1], value, 'PX', ttl)
  else
    redis.call('SET', KEYS[1], value)
  end
elseif old ~= '' then
  if ttl == 0 then
    redis.call('PERSIST', KEYS[1])
  else
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
  end
end
return outcome
`)

func encode(r *featurestore.Record) ([]byte, error) {
	if len(r.Fingerprint) > 255 {
		return nil, fmt.Errorf("fingerprint has %d bytes, more than 255", len(r.Fingerprint))
	}
	b := make([]byte, 0, headerLen+1+len(r.Fingerprint)+len(r.Payload))
	flags := byte(0)
	if r.Deleted {
		flags |= deleted
	}
	b = append(b, format, flags)
	for _, t := range [2]time.Time{r.Event, r.Created} {
		b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
		b = binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Rev))
	b = append(b, byte(len(r.Fingerprint)))
	b = append(b, r.Fingerprint...)
	return append(b, r.Payload...), nil
}

var errCorrupt = errors.New("stored row is corrupt")

// decode reads a stored row into r, whose Ref is set. The payload aliases b.
func decode(r *featurestore.Record, b []byte) error {
	if len(b) > 0 && b[0] != format {
		return fmt.Errorf("stored row has format %d, and this version reads %d", b[0], format)
	}
	if len(b) <= headerLen || b[1]&^deleted != 0 || len(b) < headerLen+1+int(b[headerLen]) {
		return errCorrupt
	}
	var times [2]time.Time
	for i := range times {
		at := b[2+12*i:]
		ns := binary.BigEndian.Uint32(at[8:])
		if ns >= 1e9 {
			return errCorrupt
		}
		times[i] = time.Unix(int64(binary.BigEndian.Uint64(at)), int64(ns)).UTC()
	}
	r.Found = true
	r.Deleted = b[1]&deleted != 0
	r.Event, r.Created = times[0], times[1]
	r.Seq = int64(binary.BigEndian.Uint64(b[26:]))
	r.Rev = int64(binary.BigEndian.Uint64(b[revAt:]))
	rest := b[headerLen+1:]
	n := int(b[headerLen])
	r.Fingerprint, r.Payload = string(rest[:n]), rest[n:]
	return nil
}
