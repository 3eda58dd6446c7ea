package kafka

import (
	"regexp"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// The names are part of the wire contract.
func TestTierNames(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"orders.billing.retry-10s": 10 * time.Second, "orders.billing.retry-1m0s": time.Minute,
		"orders.billing.retry-1.5s": 1500 * time.Millisecond, "orders.billing.retry-2_c2_b5s": 2 * time.Microsecond,
	} {
		require.Equal(t, want, tierName("orders", "billing", d))
	}
	require.Equal(t, "orders.a_2fb_5fc.retry-10s", tierName("orders", "a/b_c", 10*time.Second))
	allowed := regexp.MustCompile(`^[a-zA-Z0-9._-]*$`)
	seen := make(map[string]string)
	rapid.Check(t, func(t *rapid.T) {
		group := rapid.String().Draw(t, "group")
		name := legal(group)
		require.Regexp(t, allowed, name)
		if other, ok := seen[name]; ok {
			require.Equal(t, other, group, "two groups, one name")
		}
		seen[name] = group
	})
}

func TestOnlyUnorderedGroupsHaveTiers(t *testing.T) {
	s := driver.Subscription{Topics: []string{"a", "b"}, Group: "g", Delays: []time.Duration{time.Second, time.Minute, time.Second}}
	require.Empty(t, tiersOf(&s))
	s.Unordered = true
	require.Equal(t, []string{"a.g.retry-1s", "a.g.retry-1m0s", "b.g.retry-1s", "b.g.retry-1m0s"}, names(tiersOf(&s)))
	s.Group = ""
	require.Empty(t, tiersOf(&s), "topics to publish to")
}

func TestARetryGoesToTheShortestDelayThatIsLongEnough(t *testing.T) {
	s := driver.Subscription{Topics: []string{"a"}, Group: "g", Unordered: true, Delays: []time.Duration{time.Minute, time.Second, time.Hour}}
	r := &receiver{tiers: tiersOf(&s)}
	require.Equal(t, time.Second, r.tierFor("a", 0).delay)
	require.Equal(t, time.Minute, r.tierFor("a", 2*time.Second).delay)
	require.Nil(t, r.tierFor("a", 2*time.Hour))
	require.Nil(t, r.tierFor("b", time.Second))
}

// What waits where nothing is sent any more is read all the same.
func TestFormerTiers(t *testing.T) {
	exist := []string{
		"a", "a.g.retry-1s", "a.g.retry-1m0s", "a.g.retry-2_c2_b5s", "b.g.retry-1.5s",
		"a.g.retry-60s", "a.g.retry-later", "a.g.retry-", "a.h.retry-1s", "c.g.retry-1s", "a.g.retry-1h0m0s",
	}
	s := driver.Subscription{Topics: []string{"a", "b", "a.g.retry-1h0m0s"}, Group: "g", Delays: []time.Duration{time.Second}, Unordered: true}
	former, err := formerTiers(&s, exist)
	require.NoError(t, err)
	require.Equal(t, []tier{{"a.g.retry-1m0s", "a", time.Minute}, {"a.g.retry-2_c2_b5s", "a", 2 * time.Microsecond}, {"b.g.retry-1.5s", "b", 1500 * time.Millisecond}}, former)
	s.Unordered = false
	former, err = formerTiers(&s, exist)
	require.NoError(t, err)
	require.Equal(t, []string{"a.g.retry-1s", "a.g.retry-1m0s", "a.g.retry-2_c2_b5s", "b.g.retry-1.5s"}, names(former))
	for n := range mostFormer {
		exist = append(exist, tierName("b", "g", time.Duration(n)*time.Hour))
	}
	_, err = formerTiers(&s, exist)
	require.ErrorContains(t, err, `"b.g.retry-*"`)
}

func TestARetryIsOfTheGroupThatSentIt(t *testing.T) {
	require.Equal(t, tierName("orders", "eu.billing", time.Second), tierName("orders.eu", "billing", time.Second), "one topic for both")
	record := func(groups ...string) *sarama.ConsumerMessage {
		m := &sarama.ConsumerMessage{Headers: []*sarama.RecordHeader{nil}}
		for _, g := range groups {
			m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(headerOf), Value: []byte(g)})
		}
		return m
	}
	require.True(t, isOf(record("billing"), "billing"))
	require.False(t, isOf(record("eu.billing"), "billing"))
	require.False(t, isOf(record("billing", "eu.billing"), "billing"), "the last one counts")
	require.True(t, isOf(record(), "billing"), "of a foreign producer, or a former version")
}

// What others wrote into a tier is due at once.
func TestDueOfForeignRecords(t *testing.T) {
	record := func(value string) *sarama.ConsumerMessage {
		return &sarama.ConsumerMessage{Headers: []*sarama.RecordHeader{nil, {Key: []byte(headerDue), Value: []byte(value)}}}
	}
	require.True(t, due(&sarama.ConsumerMessage{}).IsZero())
	require.True(t, due(record("soon")).IsZero())
	require.Equal(t, time.Unix(1, 5).UTC(), due(record("1970-01-01T00:00:01.000000005Z")))
}
