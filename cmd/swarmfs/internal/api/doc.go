// Package api is how commands talk to a running mount: HTTP with JSON bodies
// over a unix socket in the data folder, control.sock, which its owner alone may
// use. The Server runs as a service in the daemon, the Client in the commands.
// Both are of one build: the paths carry a number that changes when a newer
// client could misunderstand an older daemon.
//
//	GET  /v1/status?arg=&path=   Status
//	POST /v1/add     AddRequest    AddReply
//	POST /v1/remove  Target        Done
//	POST /v1/pin     Target        Done
//	POST /v1/unpin   Target        Done
//	POST /v1/limit   LimitRequest  Limits
//	POST /v1/verify  VerifyRequest VerifyReply
//
// An answer that is not 200 holds an Error. What a client can make the server
// do is bounded in connections, bytes and time; the mount never waits for it.
package api
