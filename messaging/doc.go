// Package messaging publishes messages to brokers and handles them: in order
// per key, with retries that end, dead letters that lose nothing, and
// guarantees that are stated and checked.
//
// A [Topic] says once, for both sides, what a topic carries. A [Publisher]
// returns nil only when the broker holds the message. A [Consumer] runs
// handlers: nil settles the message, an error goes to its [RetryPolicy], and
// what cannot succeed ends in a dead-letter topic, published and confirmed
// before the original is given up. There are no acks to forget.
//
//	var Orders = messaging.NewTopic("orders", messaging.JSON[Order]())
//
//	broker := memory.New(nil) // or kafka.Open
//	err := Orders.Publish(ctx, broker.Publisher(), order.Customer, order)
//
//	billing, err := broker.Consumer("billing", nil, Orders.On(bill))
//	log.Print(billing.Guarantee())
//	err = billing.Run(ctx)
//
// # Delivery
//
// Every message is handled at least once by every group: what a consumer did
// not settle, because it died, was cancelled or lost its partition, is
// delivered again. So a handler may run twice for one message. With
// [ConsumerOptions.Inbox] its effect happens once; an idempotency.Guard is an
// inbox.
//
// # Order
//
// Messages of one topic and key are handled one at a time, in the order in
// which they were published. Different keys run at the same time, up to
// [ConsumerOptions.Concurrency]. While a message waits for a retry its key
// waits too, and the other keys go on. Order holds between retries; a dead
// letter leaves the queue and its key goes on without it.
//
// # Failure
//
// A run that fails is repeated at once [RetryPolicy.Inline] times, then the
// message is delivered again after [RetryPolicy.Delays], until
// [RetryPolicy.MaxAttempts]. [Permanent] skips all that, [RetryAfter] moves the
// next delivery, [Discard] settles without effect. A panic is a failure. What
// cannot be decoded is permanent and keeps its bytes. A dead letter carries the
// number of attempts, the group, the topic it comes from and the last error as
// headers: see docs/wire.md. How often a message was tried, and how long it
// still waits, outlives the process that tried it.
//
// # Ending
//
// When the context of [Consumer.Run] ends, it takes no more messages, lets the
// running handlers finish for [ConsumerOptions.Drain], gives back what had not
// begun, and returns nil.
//
// # Brokers
//
// Adapters are subpackages: memory, kafka, rabbitmq, redisstream. All pass the same conformance kit,
// messagingtest, which also checks drivers of one's own, and any broker client
// by counting what was lost, doubled or reordered.
package messaging
