package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// What the client waits for by itself ends well before a person would look.
func TestGroupsLookForLeadersOften(t *testing.T) {
	c := sarama.NewConfig()
	require.Equal(t, 10*time.Second, groupConfig(c, time.Second).Metadata.RefreshFrequency)
	require.Equal(t, 10*time.Minute, c.Metadata.RefreshFrequency, "the program's own is left alone")
	c.Metadata.RefreshFrequency = time.Minute
	require.Equal(t, time.Minute, groupConfig(c, time.Second).Metadata.RefreshFrequency, "it knows what it chose")
	require.NoError(t, groupConfig(c, time.Second).Validate())
}
