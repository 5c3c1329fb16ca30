package swarm

import (
	"errors"
	"sync"

	"swarmfs/swarm/wire"
)

// outbox is what the loop has for a peer's writer. The loop appends without
// ever waiting; a peer that does not read overflows it and is dropped.
type outbox struct {
	wake chan struct{} // 1 deep: something is there

	mu      sync.Mutex
	control []byte // messages, ready to be sent
	uploads []wire.Message
}

// Control messages that a peer may leave unread, in bytes: the whole of our
// have messages for 50,000 pieces, or 15,000 requests.
const maxControl = 512 << 10

var errDeaf = errors.New("does not read what it is sent")

func newOutbox() outbox { return outbox{wake: make(chan struct{}, 1)} }

// append queues a message; false says that the peer does not keep up.
func (o *outbox) append(m wire.Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.control = wire.Append(o.control, m)
	return len(o.control) <= maxControl
}

func (o *outbox) upload(m wire.Message) {
	o.mu.Lock()
	o.uploads = append(o.uploads, m)
	o.mu.Unlock()
}

// signal wakes the writer.
func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take gives the writer all control messages, in exchange for an empty buffer,
// and up to n uploads appended to list.
func (o *outbox) take(empty []byte, list []wire.Message, n int) ([]byte, []wire.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	control := o.control
	o.control = empty[:0]
	n = min(n, len(o.uploads))
	list = append(list, o.uploads[:n]...)
	o.uploads = append(o.uploads[:0], o.uploads[n:]...)
	return control, list
}
