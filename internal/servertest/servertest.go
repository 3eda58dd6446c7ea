// Package servertest finds the real servers that integration tests use.
//
// A test asks for a server by name; where its address is not in the
// environment the test is skipped with a line that says how to start one.
// scripts/services starts private servers and prints the variables.
package servertest

import (
	"os"
	"strings"
	"testing"
)

// Redis returns the address of a Redis server, host:port, or skips t.
func Redis(t testing.TB) string {
	t.Helper()
	return find(t, "MAINSTAY_REDIS_ADDR", "redis")
}

// Kafka returns the addresses of a Kafka cluster's brokers, or skips t.
func Kafka(t testing.TB) []string {
	t.Helper()
	return strings.Split(find(t, "MAINSTAY_KAFKA_ADDRS", "kafka"), ",")
}

// KafkaSASL returns the address of a broker that takes the user mainstay with the
// password mainstay by SASL's PLAIN, without TLS, and nobody else, or skips t.
func KafkaSASL(t testing.TB) string {
	t.Helper()
	return find(t, "MAINSTAY_KAFKA_SASL_ADDR", "kafka")
}

// AMQP returns the URL of a RabbitMQ server, or skips t.
func AMQP(t testing.TB) string {
	t.Helper()
	return find(t, "MAINSTAY_AMQP_URL", "rabbitmq")
}

// Postgres returns the URL of a PostgreSQL server, or skips t.
func Postgres(t testing.TB) string {
	t.Helper()
	return find(t, "MAINSTAY_POSTGRES_URL", "postgres")
}

func find(t testing.TB, variable, service string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Skipf("needs a real %s: %s is not set; start one with: eval \"$(scripts/services start %s)\"", service, variable, service)
	}
	return value
}
