// Package forward makes servers of the cluster's network reachable on the
// host: it accepts on 127.0.0.1 and passes the bytes on.
package forward

import (
	"io"
	"net"
	"sync"
)

// Serve passes every connection on to the address target, in the network
// namespace of the process, until the listener is closed.
func Serve(listener net.Listener, target string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go connect(client.(*net.TCPConn), target)
	}
}

// connect joins a client with the server. A server that is not there looks to
// the client like one that closed the connection.
func connect(client *net.TCPConn, target string) {
	defer client.Close()
	connection, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.SetLinger(0) // reset
		return
	}
	server := connection.(*net.TCPConn)
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}

// pass copies one direction and closes just that: the other may still have
// something to say. After an error neither has.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
}
