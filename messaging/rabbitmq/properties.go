package rabbitmq

import (
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// headerProperties holds what AMQP has and a message does not, an amqp.Table,
// so that it stays with a message that is published again. It is no header on
// the wire.
const headerProperties = wire.Prefix + "properties"

// properties are those of d that pass on, by their names in AMQP; nil if it has
// none. Expiration would end the wait for a retry, and the server takes a user
// ID only from that user.
func properties(d *amqp.Delivery) amqp.Table {
	var t amqp.Table
	set := func(name string, value any, is bool) {
		if is && t == nil {
			t = make(amqp.Table)
		}
		if is {
			t[name] = value
		}
	}
	set("content-encoding", d.ContentEncoding, d.ContentEncoding != "")
	set("correlation-id", d.CorrelationId, d.CorrelationId != "")
	set("reply-to", d.ReplyTo, d.ReplyTo != "")
	set("type", d.Type, d.Type != "")
	set("app-id", d.AppId, d.AppId != "")
	set("priority", d.Priority, d.Priority != 0)
	return t
}

// setProperties is the way back.
func setProperties(p *amqp.Publishing, h *driver.Header) {
	t, _ := h.Native.(amqp.Table)
	p.ContentEncoding = printed(t["content-encoding"])
	p.CorrelationId = printed(t["correlation-id"])
	p.ReplyTo = printed(t["reply-to"])
	p.Type = printed(t["type"])
	p.AppId = printed(t["app-id"])
	p.Priority, _ = t["priority"].(byte)
}
