// A backend in Go: one command, one line.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

type registry struct {
	net.Conn
	reader *bufio.Reader
}

func connect() registry {
	conn, err := net.Dial("tcp", net.JoinHostPort(os.Args[1], os.Args[2]))
	if err != nil {
		panic(err)
	}
	return registry{conn, bufio.NewReader(conn)}
}

func (r registry) ask(command string) string {
	if err := r.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		panic(err)
	}
	if _, err := fmt.Fprintf(r, "%s\n", command); err != nil {
		panic(err)
	}
	reply, err := r.reader.ReadString('\n')
	if err != nil {
		panic(err)
	}
	reply = strings.TrimSpace(reply)
	if strings.HasPrefix(reply, "ACK") {
		fmt.Println("ACK")
	} else {
		fmt.Println(reply)
	}
	return reply
}

func main() {
	r := connect()
	sid := strings.Split(r.ask("REGISTER|api-service|api-v2|9000|9001"), "|")[1]
	for _, command := range []string{
		"ROUTE|" + sid + "|api.example.com|/v2|http://api-v2:9000",
		"ROUTE|" + sid + "|a.example.com,*.b.example.com|/|http://api-v2:9000",
		"HEADER|" + sid + "|X-API-Version|2.0",
		"OPTIONS|" + sid + "|timeout|60s",
		"VALIDATE|" + sid,
		"MAINT_ENTER|" + sid,
		"MAINT_EXIT|" + sid,
		"PING",
	} {
		r.ask(command)
	}
	r.Close()

	r = connect()
	r.ask("RECONNECT|" + sid)
	r.ask("ROUTE|" + sid + "|api.example.com|/v3|http://api-v2:9000")
	r.Close()

	r = connect()
	r.ask("RECONNECT|forgotten")
	sid = strings.Split(r.ask("REGISTER|web|web-1|8080|0"), "|")[1]
	r.ask("ROUTE|" + sid + "|web.example.com|/|http://web-1:8080")
	r.ask("SHUTDOWN|" + sid)
	if _, err := r.reader.ReadByte(); err == io.EOF {
		fmt.Println("the end")
	}
}
