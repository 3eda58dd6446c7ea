package redisstream

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// Every name that one script touches has the same hash tag, the braces, so
// that in a cluster all of a partition is in one slot.
type names struct{ prefix string }

var escape = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D", ":", "%3A")

// topic is the hash that says that a topic exists and how many partitions it has.
func (n names) topic(topic string) string { return n.prefix + "{" + escape.Replace(topic) + "}:topic" }

// members is the sorted set of a group's members, by when they expire.
func (n names) members(topic, group string) string {
	return n.prefix + "{" + escape.Replace(topic) + "}:members:" + escape.Replace(group)
}

// stream holds the messages of a partition.
func (n names) stream(topic string, p int) string {
	return n.prefix + "{" + escape.Replace(topic) + ":" + strconv.Itoa(p) + "}"
}

// guard is an empty stream that lives as long as the lease of the owner with
// this token: see read.go.
func guard(stream, group, token string) string {
	return stream + ":guard:" + escape.Replace(group) + ":" + escape.Replace(token)
}

// Of a group in a partition: who owns it, when its retries are due, and their
// headers.
func owner(stream, group string) string   { return stream + ":owner:" + escape.Replace(group) }
func delayed(stream, group string) string { return stream + ":delayed:" + escape.Replace(group) }
func headers(stream, group string) string { return stream + ":headers:" + escape.Replace(group) }

// partitionOf is FNV-1a of the key, 32 bits, modulo the number of partitions.
func partitionOf(key string, partitions int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % uint32(partitions))
}
