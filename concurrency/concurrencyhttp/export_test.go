package concurrencyhttp

import "net/http"

// Idle tells how many idle connections a client keeps.
func Idle(c *http.Client) (perHost, all int) {
	base := c.Transport.(*transport).base
	return base.MaxIdleConnsPerHost, base.MaxIdleConns
}
