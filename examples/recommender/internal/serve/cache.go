package serve

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
)

// Cache keeps the last answer of each customer, for when nothing better can be
// had in time. When it is full, an arbitrary answer makes room.
type Cache struct {
	limit int

	mu      sync.RWMutex
	answers map[string][]string
}

// NewCache makes a cache of at most limit answers.
func NewCache(limit int) *Cache { return &Cache{limit: limit, answers: map[string][]string{}} }

// Handler serves GET /answers/{customer}, 200 with no items where there is no
// answer, and POST /answers with a list of them.
func (c *Cache) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /answers/{customer}", func(w http.ResponseWriter, r *http.Request) {
		customer := r.PathValue("customer")
		c.mu.RLock()
		items := c.answers[customer]
		c.mu.RUnlock()
		wire.Reply(w, wire.Answer{Customer: customer, Items: items})
	})
	mux.HandleFunc("POST /answers", func(w http.ResponseWriter, r *http.Request) {
		var answers []wire.Answer
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&answers); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.put(answers)
		wire.Reply(w, struct{}{})
	})
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return mux
}

func (c *Cache) put(answers []wire.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		if _, known := c.answers[a.Customer]; !known && len(c.answers) >= c.limit {
			for other := range c.answers {
				delete(c.answers, other)
				break
			}
		}
		c.answers[a.Customer] = a.Items
	}
}
