// Package conform runs conformance kits of this library where that needs
// modules which the library itself must not require: Kafka in the process, of
// franz-go. It is a module of its own and is not released.
package conform
