package forward

import (
	"io"
	"net"
	"testing"
)

func TestEachDirectionEndsByItself(t *testing.T) {
	server, _, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // answers only after all of the question
		connection, err := server.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		question, _ := io.ReadAll(connection)
		_, _ = connection.Write(append([]byte("re: "), question...))
	}()
	front, port, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	go Serve(front, server.Addr().String())

	client, err := net.Dial("tcp", Local(port))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = client.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(client)
	if err != nil || string(answer) != "re: hello" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestAMissingServerEndsTheConnection(t *testing.T) {
	gone, port, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	front, frontPort, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	go Serve(front, Local(port))
	client, err := net.Dial("tcp", Local(frontPort))
	if err != nil {
		return // the reset was quicker than the dialler
	}
	defer client.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("there is nobody to answer")
	}
}

func TestATakenPortIsReplaced(t *testing.T) {
	taken, port, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other, got, err := Listen(port)
	if err != nil || got == port {
		t.Fatalf("got %d, %v", got, err)
	}
	other.Close()
}

func TestWantKeepsKnownPorts(t *testing.T) {
	ports := Ports{443: 40000}
	if ports.Want([]int{443}) || !ports.Open() {
		t.Error("nothing was new")
	}
	if !ports.Want([]int{5432}) || ports.Open() || ports[443] != 40000 {
		t.Errorf("got %v", ports)
	}
}
