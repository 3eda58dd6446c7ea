package rabbitmq

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// slots is the number of routing keys that the keys of messages fall into. A
// group's queues share them, so that publishers need not know how many queues
// a group has. Part of the wire contract: never changes.
const slots = 64

// slotNames are the routing keys.
var slotNames = func() (names [slots]string) {
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}()

// slot returns the slot of a key that is not empty.
func slot(key string) int { return int(crc32.ChecksumIEEE([]byte(key)) % slots) }

// part makes a topic or a group a part of a queue's name, in which slashes
// separate.
var part = strings.NewReplacer("%", "%25", "/", "%2F")

// queueName names the queue of an unordered group, and begins the names of
// all queues of any group.
func queueName(topic, group string) string { return part.Replace(topic) + "/" + part.Replace(group) }

// ofQueue returns the topic and the group of a queue's name.
func ofQueue(name string) (topic, group string) {
	topic, rest, _ := strings.Cut(name, "/")
	group, _, _ = strings.Cut(rest, "/")
	back := strings.NewReplacer("%2F", "/", "%25", "%")
	return back.Replace(topic), back.Replace(group)
}

func partitionName(topic, group string, p int) string {
	return queueName(topic, group) + "/" + strconv.Itoa(p)
}

func retryName(topic, group string, d time.Duration) string {
	return queueName(topic, group) + "/retry-" + d.String()
}

// notesName names the stream that notes of a partition are written to.
func notesName(partition string) string { return partition + "/notes" }

// deathName names the exchange that RabbitMQ sends a group's poison messages
// through: bound to the dead-letter topic, which may change.
func deathName(topic, group string) string { return queueName(topic, group) + "/dead" }

// unclaimedName names the exchange that gets what no group of topic is bound
// for, and the queue that keeps it if topic is one of dead letters.
func unclaimedName(topic string) string { return topic + ".unclaimed" }

// membersExchange is where the members of all groups tell each other that
// they are there; routed by group.
const membersExchange = "mainstay.members"

// names refuses what AMQP cannot name.
func names(s *driver.Subscription) error {
	const most = 255
	longest := len("/retry-") + len(time.Duration(1<<62).String())
	for _, topic := range s.Topics {
		if topic == "" || strings.HasPrefix(topic, "amq.") {
			return fmt.Errorf("%w: %q: a topic needs a name, and names that begin with amq. are RabbitMQ's own", driver.ErrUnroutable, topic)
		}
		if n := len(queueName(topic, s.Group)) + longest; n > most {
			return fmt.Errorf("%w: %q with group %q: their names are %d bytes too long", driver.ErrUnroutable, topic, s.Group, n-most)
		}
	}
	return nil
}
