// Package concurrencyhttp is an HTTP client that reuses its connections and an
// HTTP server that stops gracefully, with the caller's deadline carried from
// one to the other.
//
// The zero [net/http.Client] keeps two idle connections per host, so a service
// that calls another one concurrently dials all the time; it has no timeout; and
// it gives up the connection of every response whose body was not read to its
// end. [NewClient] returns an ordinary *http.Client without these three traps.
//
// Its [Options] add what a dependency needs around it: a limiter, for example a
// breaker, that is asked before each request and learns from each answer; and
// for the requests that may be repeated a second one beside the first when that
// is late, and repetition after a failure. They stand in this order: every
// repetition may be hedged, each of its requests asks the limiter again, none is
// made past the deadline, and all are taken from the [concurrency.Budget] of the
// request's context, if there is one.
//
// The deadline travels in the header Grpc-Timeout, as the time that remains
// (for example "95000u", 95 ms), in the format of the gRPC over HTTP/2
// protocol: at most eight digits and one of the units H, M, S, m, u, n. Relative
// time needs no clocks that agree; the time on the wire is not deducted. The
// client sends it, the [Deadline] handler applies it, and a call made with the
// request's context hands on what is left.
package concurrencyhttp
