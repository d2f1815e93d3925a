// The Go program that the benchmark compares with: the same modes and options as the bare C program
// (bench/baseline/), on nats.go's callbacks and its Fetch. It sends only what is needed, without moonbus'
// headers.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	batch    = 500  // of one Fetch
	fetchers = 2    // so that the server always owes messages; measured: no faster with more
	inHand   = 4096 // inputs whose output is not stored yet
)

var options = map[string]string{
	"in": "bench.in", "out": "bench.out", "stream": "IN", "durable": "bench", "per-mark": "1", "json": "no",
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveCore hands every message to handle, on nats.go's goroutine of the subscription.
func serveCore(connection *nats.Conn, handle nats.MsgHandler) {
	subscription, err := connection.Subscribe(options["in"], handle)
	must(err)
	must(subscription.SetPendingLimits(-1, -1))
}

func receive(connection *nats.Conn) {
	perMark, err := strconv.ParseInt(options["per-mark"], 10, 64)
	must(err)
	var received, bytes int64
	serveCore(connection, func(msg *nats.Msg) {
		bytes += int64(len(msg.Data))
		if atomic.AddInt64(&received, 1)%perMark == 0 {
			must(connection.Publish(options["out"], msg.Data))
		}
	})
	_, err = connection.Subscribe("bench.count", func(msg *nats.Msg) {
		must(msg.Respond([]byte(strconv.FormatInt(atomic.LoadInt64(&received), 10))))
	})
	must(err)
}

// latency answers with how late the message is.
func latency(connection *nats.Conn) {
	serveCore(connection, func(msg *nats.Msg) {
		now := float64(time.Now().UnixNano()) / 1e9
		due, err := strconv.ParseFloat(strings.TrimRight(string(msg.Data), " "), 64)
		must(err)
		must(connection.Publish(options["out"], []byte(strconv.FormatFloat(now-due, 'f', 9, 64))))
	})
}

// fetch hands the messages of the durable to handle, from as many goroutines as there are fetchers.
func fetch(js nats.JetStreamContext, handle func(msg *nats.Msg)) {
	_, err := js.AddConsumer(options["stream"], &nats.ConsumerConfig{
		Durable: options["durable"], AckPolicy: nats.AckExplicitPolicy, MaxAckPending: 4 * inHand, MaxDeliver: -1,
	})
	must(err)
	for i := 0; i < fetchers; i++ {
		subscription, err := js.PullSubscribe("", options["durable"], nats.Bind(options["stream"], options["durable"]))
		must(err)
		go func() {
			for {
				messages, err := subscription.Fetch(batch, nats.MaxWait(time.Second))
				if err != nil && !errors.Is(err, nats.ErrTimeout) {
					must(err)
				}
				for _, msg := range messages {
					handle(msg)
				}
			}
		}()
	}
}

type underWay struct {
	msg    *nats.Msg
	stored nats.PubAckFuture
}

type item struct {
	SKU   string  `json:"sku"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
}

type order struct {
	ID       int     `json:"id"`
	Customer string  `json:"customer"`
	Total    float64 `json:"total"`
	Items    []item  `json:"items"`
	Note     string  `json:"note"`
}

func nextOrder(data []byte) []byte {
	var decoded order
	must(json.Unmarshal(data, &decoded))
	decoded.ID++
	encoded, err := json.Marshal(decoded)
	must(err)
	return encoded
}

// relay publishes each message, and acknowledges it when its output is stored.
func relay(js nats.JetStreamContext) {
	stored := make(chan underWay, inHand)
	go func() {
		for each := range stored {
			select {
			case <-each.stored.Ok():
				must(each.msg.Ack())
			case err := <-each.stored.Err():
				must(err)
			}
		}
	}()
	fetch(js, func(msg *nats.Msg) {
		data := msg.Data
		if options["json"] == "yes" {
			data = nextOrder(data)
		}
		future, err := js.PublishAsync(options["out"], data)
		must(err)
		stored <- underWay{msg, future}
	})
}

func main() {
	mode := os.Args[1]
	if mode == "check" {
		fmt.Println("ready nats.go " + nats.Version)
		return
	}
	for i := 2; i+1 < len(os.Args); i += 2 {
		options[strings.TrimPrefix(os.Args[i], "--")] = os.Args[i+1]
	}
	connection, err := nats.Connect(options["url"])
	must(err)
	js, err := connection.JetStream(nats.PublishAsyncMaxPending(inHand))
	must(err)
	switch mode {
	case "echo":
		serveCore(connection, func(msg *nats.Msg) { must(connection.Publish(options["out"], msg.Data)) })
	case "receive":
		receive(connection)
	case "respond":
		serveCore(connection, func(msg *nats.Msg) { must(msg.Respond(msg.Data)) })
	case "latency":
		latency(connection)
	case "consume":
		fetch(js, func(msg *nats.Msg) { must(msg.Ack()) })
	case "relay":
		relay(js)
	default:
		must(fmt.Errorf("unknown mode %q", mode))
	}
	must(connection.Flush())
	fmt.Println("ready")
	select {}
}
