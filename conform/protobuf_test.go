package conform_test

import (
	"context"
	"fmt"
	"mime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/cloudevents"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

// Protobuf is the whole of a codec for Protocol Buffers. M is a generated
// message, T a pointer to it.
type Protobuf[M any, T interface {
	*M
	proto.Message
}] struct{}

// Encode implements messaging.Codec.
func (Protobuf[M, T]) Encode(m *messaging.Message, v T) (err error) {
	m.ContentType = "application/protobuf; messageType=" + string(v.ProtoReflect().Descriptor().FullName())
	m.Body, err = proto.Marshal(v)
	return err
}

// Decode implements messaging.Codec.
func (Protobuf[M, T]) Decode(m *messaging.Message) (T, error) {
	v := T(new(M))
	kind, args, err := mime.ParseMediaType(m.ContentType)
	if err != nil || kind != "application/protobuf" || args["messagetype"] != string(v.ProtoReflect().Descriptor().FullName()) {
		return nil, fmt.Errorf("content type %q is not that of a %T", m.ContentType, v)
	}
	return v, proto.Unmarshal(m.Body, v)
}

func TestProtobufFitsACodec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		Orders := messaging.NewTopic("orders", Protobuf[structpb.Struct, *structpb.Struct]{})
		b := memory.New(nil)
		got, dead := make(chan *structpb.Struct, 1), make(chan *messaging.Delivery, 10)
		c, err := b.Consumer("billing", nil, Orders.On(func(_ context.Context, o *structpb.Struct, _ *messaging.Delivery) error {
			got <- o
			return nil
		}))
		require.NoError(t, err)
		clerk, err := b.Consumer("clerk", nil, messaging.On("orders.dead", func(_ context.Context, d *messaging.Delivery) error {
			dead <- d
			return nil
		}))
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- c.Run(ctx) }()
		go func() { ended <- clerk.Run(ctx) }()
		order, err := structpb.NewStruct(map[string]any{"id": "o-1", "pence": 1250.0, "lines": []any{"lamp", "rope"}})
		require.NoError(t, err)
		require.NoError(t, Orders.Publish(ctx, b.Publisher(), "ada", order))
		require.True(t, proto.Equal(order, <-got))

		foreign := map[string]*messaging.Message{
			"json":  {ID: "json", Topic: "orders", ContentType: "application/json", Body: []byte(`{"id":"o-2"}`)},
			"other": {ID: "other", Topic: "orders", ContentType: "application/protobuf; messageType=shop.Refund"},
			"torn":  {ID: "torn", Topic: "orders", ContentType: "application/protobuf; messageType=google.protobuf.Struct", Body: []byte{0x0a, 0xff}},
		}
		for _, m := range foreign {
			require.NoError(t, b.Publisher().Publish(ctx, m))
		}
		for range foreign {
			d := <-dead
			require.Equal(t, foreign[d.ID].Body, d.Body, "with its bytes")
			require.Contains(t, d.LastError, "decode: ")
		}
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
	})
}

// In binary mode the data of a CloudEvent is whatever its codec writes.
func TestProtobufInACloudEvent(t *testing.T) {
	type event = cloudevents.Event[*structpb.Struct]
	topic := messaging.NewTopic("orders", cloudevents.Binary(Protobuf[structpb.Struct, *structpb.Struct]{}))
	data, err := structpb.NewStruct(map[string]any{"id": "o-1"})
	require.NoError(t, err)
	m, err := topic.Message("ada", event{Source: "/shop", Type: "order.placed", Data: data, Time: time.Unix(1, 0)})
	require.NoError(t, err)
	require.Equal(t, "order.placed", m.Headers.Get("ce_type"))
	plain, err := Protobuf[structpb.Struct, *structpb.Struct]{}.Decode(m)
	require.NoError(t, err, "who knows nothing of CloudEvents reads it")
	require.True(t, proto.Equal(data, plain))
	back, err := cloudevents.Binary(Protobuf[structpb.Struct, *structpb.Struct]{}).Decode(m)
	require.NoError(t, err)
	require.True(t, proto.Equal(data, back.Data))
}
