package concurrencyhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const defaultDrain = 10 * time.Second

// Serve returns a service for [concurrency.Run] that listens on s.Addr and
// serves until its context ends. It then stops accepting connections, lets the
// requests in progress finish for at most drain, and returns nil. Requests
// still running after that are cut off: their connections are closed, which
// cancels their contexts, and the error matches [context.DeadlineExceeded].
// A connection on which no request has come yet is closed at once and holds
// nothing up.
// Handlers are not told of the end of ctx before; hijacked connections are the
// business of who hijacked them. A drain that is not positive means 10 s.
//
// Any failure to listen or serve is returned. A server that was shut down by
// someone else has finished: nil. TLS is used if s.TLSConfig holds certificates.
// An http.Server cannot be used again, so the service runs once. Serve panics
// if s is nil.
//
// Only what listens and drains is owned by Serve: a handler that ignores its
// context is not waited for beyond drain.
func Serve(s *http.Server, drain time.Duration) func(context.Context) error {
	if s == nil {
		panic("concurrencyhttp: Serve: nil server")
	}
	if drain <= 0 {
		drain = defaultDrain
	}
	return func(ctx context.Context) error {
		var unused unusedConns
		s.ConnState = unused.track(s.ConnState)
		s.RegisterOnShutdown(unused.close)
		ended := make(chan error, 1)
		go func() { ended <- listen(s) }()
		select {
		case err := <-ended:
			return served(s, err)
		case <-ctx.Done():
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		err := s.Shutdown(limit)
		if err != nil {
			err = fmt.Errorf("concurrencyhttp: %s not drained within %v, requests cut off: %w",
				s.Addr, drain, errors.Join(err, s.Close()))
		}
		return errors.Join(served(s, <-ended), err)
	}
}

func listen(s *http.Server) error {
	if c := s.TLSConfig; c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil) {
		return s.ListenAndServeTLS("", "")
	}
	return s.ListenAndServe()
}

func served(s *http.Server, err error) error {
	if err == nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("concurrencyhttp: serve %s: %w", s.Addr, err)
}

// unusedConns are the connections of a server on which nothing has been asked
// yet: clients dial more than they use. On its own a shutdown waits five seconds
// for their first request, longer than many drains, and does not answer it.
type unusedConns struct {
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// track returns a hook that keeps account and then calls next, if any.
func (u *unusedConns) track(next func(net.Conn, http.ConnState)) func(net.Conn, http.ConnState) {
	u.conns = make(map[net.Conn]struct{})
	return func(c net.Conn, state http.ConnState) {
		u.mu.Lock()
		switch {
		case state != http.StateNew:
			delete(u.conns, c)
		case u.closed:
			_ = c.Close()
		default:
			u.conns[c] = struct{}{}
		}
		u.mu.Unlock()
		if next != nil {
			next(c, state)
		}
	}
}

// close closes them. One that was accepted but not yet announced follows when
// it is.
func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.conns {
		_ = c.Close()
	}
	clear(u.conns)
}
