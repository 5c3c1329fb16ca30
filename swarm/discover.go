package swarm

// announce is replaced once the tracker package is in.
func (r *run) announce() error { return nil }
