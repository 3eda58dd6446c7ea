package kafka

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func encode(m *driver.Message) *sarama.ProducerMessage {
	r := new(record)
	r.encode(m, noon)
	return &r.ProducerMessage
}

func TestEncodeFollowsTheWireContract(t *testing.T) {
	body := []byte("body")
	p := encode(&driver.Message{
		ID: "1", Topic: "t", Key: "k", ContentType: "text/plain", Schema: "v2", Body: body,
		Time:    time.Date(2026, 1, 31, 12, 50, 0, 123456789, time.FixedZone("", 3600)),
		Headers: driver.Headers{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}},
	})
	body[0] = 'x'
	var got []string
	for _, h := range p.Headers {
		got = append(got, string(h.Key)+"="+string(h.Value))
	}
	require.Equal(t, []string{
		"mainstay-id=1", "content-type=text/plain", "mainstay-schema=v2", "mainstay-time=2026-01-31T11:50:00.123456789Z", "a=1", "a=",
	}, got)
	for want, e := range map[string]sarama.Encoder{"body": p.Value, "k": p.Key} {
		b, err := e.Encode()
		require.NoError(t, err)
		require.Equal(t, want, string(b), "the record has bytes of its own")
		require.Equal(t, len(want), e.Length())
	}
	require.Equal(t, int64(1769860200123), p.Timestamp.UnixMilli())
}

func TestEncodeLeavesOutWhatIsEmpty(t *testing.T) {
	p := encode(&driver.Message{ID: "1", Topic: "t", Time: noon.Add(time.Hour)})
	require.Nil(t, p.Key, "no key: spread over the partitions")
	require.NotNil(t, p.Value, "an empty body is not a tombstone")
	require.Len(t, p.Headers, 2)
	require.Equal(t, noon, p.Timestamp, "brokers refuse the future")
}

// Brokers delete by the timestamp, which must not be that of an old message.
func TestEncodedCopiesAreOfNow(t *testing.T) {
	for _, header := range []string{headerDue, wire.Dead} {
		p := encode(&driver.Message{ID: "1", Topic: "t", Time: noon.Add(-time.Hour), Headers: driver.Headers{{Key: header, Value: []byte("x")}}})
		require.Equal(t, noon, p.Timestamp, header)
		require.Equal(t, "2026-01-31T11:00:00Z", string(p.Headers[1].Value), "the message has its time")
	}
	p := encode(&driver.Message{ID: "1", Topic: "t", Time: noon.Add(-time.Hour), Headers: driver.Headers{{Key: wire.Origin, Value: []byte("t")}}})
	require.Equal(t, noon.Add(-time.Hour), p.Timestamp)
}

func TestDecodeTakesWhatThereIs(t *testing.T) {
	header := func(k, v string) *sarama.RecordHeader {
		return &sarama.RecordHeader{Key: []byte(k), Value: []byte(v)}
	}
	r := &sarama.ConsumerMessage{
		Topic: "t", Partition: 3, Offset: 1042, Key: []byte("k"), Value: []byte("v"), Timestamp: noon,
		Headers: []*sarama.RecordHeader{header("ce_id", "7"), header("mainstay-time", "yesterday"), header("content-type", "text/plain")},
	}
	require.Equal(t, driver.Message{
		ID: "t/3/1042", Topic: "t", Key: "k", ContentType: "text/plain", Body: []byte("v"), Time: noon,
		Headers: driver.Headers{{Key: "ce_id", Value: []byte("7")}},
	}, decode(r))
	require.Equal(t, "3/1042", position(r, '/'))
}

func FuzzDecode(f *testing.F) {
	f.Add("mainstay-time", "2026-01-31T12:50:00Z", "mainstay-id", "1")
	f.Add("mainstay-time", "", "mainstay-time", "x")
	f.Add("mainstay-id", "", "content-type", "\xff")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		r := &sarama.ConsumerMessage{Topic: "t", Timestamp: noon, Headers: []*sarama.RecordHeader{
			{Key: []byte(k1), Value: []byte(v1)}, nil, {Key: []byte(k2), Value: []byte(v2)},
		}}
		m := decode(r)
		require.NotEmpty(t, m.ID)
		require.False(t, m.Time.IsZero() && v1 != "0001-01-01T00:00:00Z" && v2 != "0001-01-01T00:00:00Z")
		p := encode(&m)
		again := &sarama.ConsumerMessage{Topic: "t", Timestamp: noon}
		for i := range p.Headers {
			again.Headers = append(again.Headers, &p.Headers[i])
		}
		n := decode(again)
		require.Equal(t, m.ID, n.ID)
		require.True(t, m.Time.Equal(n.Time) || m.Time.Year() > 9999 || m.Time.Year() < 0, "%v %v", m.Time, n.Time)
	})
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err   error
		is    error // nil: a plain refusal
		fatal bool
	}{
		{sarama.ErrMessageSizeTooLarge, driver.ErrTooLarge, false},
		{sarama.ConfigurationError("Attempt to produce message larger than configured"), driver.ErrTooLarge, false},
		{sarama.ErrTopicAuthorizationFailed, nil, false},
		{sarama.ErrRequestTimedOut, driver.ErrUnknown, false},
		{sarama.ErrOutOfBrokers, driver.ErrUnknown, false},
		{sarama.ErrNotEnoughReplicasAfterAppend, driver.ErrUnknown, false},
		{sarama.ErrOutOfOrderSequenceNumber, driver.ErrUnknown, true},
		{fmt.Errorf("somewhere: %w", sarama.ErrProducerFenced), driver.ErrUnknown, true},
		{errors.New("circuit breaker is open"), driver.ErrUnknown, false},
	} {
		fatal, got := judge(c.err)
		require.ErrorIs(t, got, c.err)
		require.Equal(t, c.fatal, fatal, c.err)
		for _, kind := range []error{driver.ErrUnknown, driver.ErrTooLarge} {
			require.Equal(t, kind == c.is, errors.Is(got, kind), "%v is %v", got, kind)
		}
	}
}
