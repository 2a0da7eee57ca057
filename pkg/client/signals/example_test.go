package signals_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/salesexec/credentials/pkg/client"
	"github.com/salesexec/credentials/pkg/client/bearer"
	"github.com/salesexec/credentials/pkg/client/signals"
)

// A service has events pushed to it, keeps the names of users and refuses tokens that have ended.
func Example() {
	service, err := makeTransmitter() // stands in for https://credentials.example
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()

	verifier, err := signals.NewVerifier(signals.Config{Issuer: issuer, Audience: receiver, KeysURL: service.URL})
	if err != nil {
		log.Fatal(err)
	}
	view, names := signals.NewView(15*time.Minute, nil), map[string]string{}
	events := signals.NewReceiver(verifier, "Bearer 9f2c", func(ctx context.Context, e signals.Event) error {
		if e.Type == signals.UsernameChanged {
			rename, err := e.Rename()
			if err != nil {
				return err
			}
			names[rename.UserID] = rename.NewUsername
			return nil
		}
		return view.Handle(ctx, e)
	})
	tokens, err := bearer.New(bearer.Config{Issuer: issuer, Audience: "salesexec", Revocations: view})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /events", events)
	mux.Handle("GET /leads", tokens.Require(http.NotFoundHandler()))

	now := time.Now().Unix()
	for id, event := range map[string]map[string]any{
		"e1": {signals.UsernameChanged: map[string]any{"user_id": "u_814", "old_username": "maria.ortiz", "new_username": "maria.o"}},
		"e2": {signals.SessionRevoked: map[string]any{"generation": 3}},
	} {
		set, err := service.signed(nil, jwt.MapClaims{
			"iss": issuer, "aud": receiver, "jti": id, "iat": now, "events": event, "sub_id": map[string]any{"format": "iss_sub", "iss": issuer, "sub": "u_814"},
		})
		if err != nil {
			log.Fatal(err)
		}
		request := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(set))
		request.Header.Set("Content-Type", "application/secevent+jwt")
		request.Header.Set("Authorization", "Bearer 9f2c")
		mux.ServeHTTP(httptest.NewRecorder(), request)
	}
	fmt.Println(names["u_814"], view.Revoked("u_814", "s1", 2), view.Revoked("u_814", "s1", 3))
	// Output: maria.o true false
}

// A service polls for events.
func ExamplePoller() {
	ctx, stop := context.WithTimeout(context.Background(), 0) // a real one runs until the program is told to end
	defer stop()
	credentials, err := client.New("https://credentials.example", client.WithClientCredentials(receiver, "the client's secret", "ssf.read"))
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := signals.NewVerifier(signals.Config{Issuer: issuer, Audience: receiver})
	if err != nil {
		log.Fatal(err)
	}
	const streamID = "0198f3a2-5c1e-7b3a-9d41-6f0c2b7e8a10" // kept since CreateStream
	poller := signals.NewPoller(credentials, streamID, verifier, signals.NewView(15*time.Minute, nil).Handle)
	fmt.Println(poller.Run(ctx))
	// Output: <nil>
}
