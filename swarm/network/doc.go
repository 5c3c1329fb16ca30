// Package network opens every socket of a session, under one policy: loopback
// only, bound to an interface, through a proxy. Whoever else needs a connection,
// a listener, a datagram socket or a name asks a Network for it; who has no
// socket of his own cannot leak.
//
//	peers ──Dial, Listen──────────┐
//	trackers, web seeds ─DialName─┤        loopback only │ device │ proxy
//	UDP trackers, DHT ──ListenPacket──► Network ──policy──► socket
//	names ──Resolve───────────────┘        ▲
//	                                     Serve: looks each second what addresses there are
//
// It fails closed. A socket that is bound to a device is bound by the kernel
// (SO_BINDTODEVICE, and the device's address as its source), so that nothing
// leaves elsewhere between a change and its being noticed. When the device is
// back, listeners and datagram sockets are opened again behind the same value.
//
// What a torrent or a link may make us connect to is another question, which
// Route answers at the moment of dialling, after names are resolved.
package network
