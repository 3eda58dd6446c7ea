// Package cloudevents reads and writes CloudEvents 1.0, so that what this
// module publishes and handles can be shared with systems that speak that
// format: Knative, Dapr, Azure Event Grid, and any SDK of the CloudEvents
// project.
//
//	type Event = cloudevents.Event[Order]
//	var Orders = messaging.NewTopic("orders", cloudevents.Binary(messaging.JSON[Order]()))
//
//	err := Orders.Publish(ctx, broker.Publisher(), order.Customer, Event{
//		Source: "/shop", Type: "com.example.order.placed", Data: order,
//	})
//
// In binary mode the attributes are headers and the body is the data as its
// codec writes it, so a consumer that knows nothing of CloudEvents still reads
// it. In structured mode the body is one JSON object. Each codec writes its
// mode and reads both: the content type tells which it is.
//
// An event's ID and time are the message's: one that is set in the event is
// written to the message, one that is not is taken from it. So retries, dead
// letters and inboxes recognise the event, whoever sent it.
//
// The formats are those of the specification, version 1.0.2: the JSON format,
// the Kafka binding for headers ("ce_"), the AMQP binding for [BinaryAMQP]
// ("cloudEvents:").
package cloudevents
