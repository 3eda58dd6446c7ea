package conform_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

// certificate returns one for 127.0.0.1 that signs itself, and who trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// The client's own settings for TLS and SASL hold for every connection that is
// made: to ask, to publish, to consume.
func TestKafkaOverTLSWithSASL(t *testing.T) {
	cert, pool := certificate(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}),
		kfake.EnableSASL(), kfake.Superuser("PLAIN", "shop", "secret-word"))
	require.NoError(t, err)
	defer cluster.Close()
	settings := func(password string, roots *x509.CertPool) *kafka.Options {
		c := sarama.NewConfig()
		c.Net.TLS.Enable, c.Net.TLS.Config = true, &tls.Config{RootCAs: roots}
		c.Net.SASL.Enable, c.Net.SASL.Mechanism = true, sarama.SASLTypePlaintext
		c.Net.SASL.User, c.Net.SASL.Password = "shop", password
		return &kafka.Options{Sarama: c, Messaging: messaging.Options{Topology: messaging.Declare}}
	}
	plain := func() *kafka.Options {
		o := settings("secret-word", pool)
		o.Sarama.Net.TLS.Enable, o.Sarama.Net.SASL.Enable = false, false
		return o
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := kafka.Open(ctx, cluster.ListenAddrs(), settings("secret-word", pool))
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close(context.Background())) }()
	running, stop := context.WithCancel(ctx)
	c, err := b.Consumer("g", nil, messaging.On("t", func(context.Context, *messaging.Delivery) error {
		stop()
		return nil
	}))
	require.NoError(t, err)
	require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: "t"}))
	require.NoError(t, c.Run(running))
	require.NoError(t, ctx.Err(), "it was handled")

	for name, o := range map[string]*kafka.Options{
		"wrong password": settings("wrong-word", pool), "no TLS": plain(), "unknown certificate": settings("secret-word", x509.NewCertPool()),
	} {
		t.Run(name, func(t *testing.T) {
			short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := kafka.Open(short, cluster.ListenAddrs(), o)
			var e *messaging.Error
			require.ErrorAs(t, err, &e)
			require.NoError(t, short.Err(), "at once")
			require.NotContains(t, err.Error(), "-word")
			switch name {
			case "unknown certificate":
				require.ErrorContains(t, err, "certificate")
			default:
				require.ErrorContains(t, err, "Net.TLS and Net.SASL")
			}
		})
	}
}

// A broken sequence ends the producer: what it had is unknown, and the next one
// publishes.
func TestKafkaGetsANewProducerAfterABrokenSequence(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	require.NoError(t, err)
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := kafka.Open(ctx, cluster.ListenAddrs(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close(context.Background())) }()
	m := &messaging.Message{Topic: "t", Key: "k"}
	require.NoError(t, b.Publisher().Publish(ctx, m))
	for name, broken := range map[string]*kerr.Error{
		"sequence": kerr.OutOfOrderSequenceNumber, "epoch": kerr.InvalidProducerEpoch, "ID": kerr.UnknownProducerID,
	} {
		t.Run(name, func(t *testing.T) {
			faults := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Err: broken, Count: 1})
			err := b.Publisher().Publish(ctx, m)
			require.Equal(t, 1, faults.Hits())
			var e *messaging.Error
			if err != nil { // the client may have sent it again itself
				require.ErrorIs(t, err, messaging.ErrUnknown)
				require.ErrorAs(t, err, &e)
				require.Equal(t, []*messaging.Message{m}, e.Unsent)
			}
			for range 3 {
				require.NoError(t, b.Publisher().Publish(ctx, m), "afterwards")
			}
		})
	}
}

// Where brokers are set to take less text beside a position, less is written;
// positions are committed all the same.
func TestKafkaTakesLittleBesideAPosition(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t", "t.dead"))
	require.NoError(t, err)
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const most = 40
	refused := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1,
		When: func(r kmsg.Request) bool {
			for _, t := range r.(*kmsg.OffsetCommitRequest).Topics {
				for _, p := range t.Partitions {
					if p.Metadata != nil && len(*p.Metadata) > most {
						return true
					}
				}
			}
			return false
		},
	})
	b, err := kafka.Open(ctx, cluster.ListenAddrs(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close(context.Background())) }()
	var msgs []*messaging.Message
	for key := range strings.SplitSeq("abcdefghijklmnopqrstuvwxyz", "") {
		msgs = append(msgs, &messaging.Message{ID: key, Topic: "t", Key: key})
	}
	require.NoError(t, b.Publisher().Publish(ctx, msgs...))
	running, stop := context.WithCancel(ctx)
	handled := 0
	c, err := b.Consumer("g", &messaging.ConsumerOptions{
		Concurrency: 1, Prefetch: 100, Retry: messaging.RetryPolicy{MaxAttempts: 2, Delays: []time.Duration{3 * time.Second}},
	}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
		if d.Attempt == 1 {
			return errors.New("the first attempt of all fails")
		}
		if handled++; handled == len(msgs) {
			stop()
		}
		return nil
	}))
	require.NoError(t, err)
	require.NoError(t, c.Run(running))
	require.Equal(t, len(msgs), handled)
	require.Positive(t, refused.Hits(), "nothing was too large")
	admin, err := sarama.NewClusterAdmin(cluster.ListenAddrs(), sarama.NewConfig())
	require.NoError(t, err)
	defer admin.Close()
	all, err := admin.ListConsumerGroupOffsets("g", map[string][]int32{"t": {0}})
	require.NoError(t, err)
	require.EqualValues(t, len(msgs), all.GetBlock("t", 0).Offset)
}
