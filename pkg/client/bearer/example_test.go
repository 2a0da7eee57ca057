package bearer_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/salesexec/credentials/internal/token"
	"github.com/salesexec/credentials/pkg/client/bearer"
)

// A service lets in users of the CRM, and changes for other services that have the scope it asks for.
func Example() {
	keys := newExampleService() // stands in for https://credentials.example.com
	defer keys.Close()

	verifier, err := bearer.New(bearer.Config{
		Issuer:   "https://credentials.example.com",
		Audience: "salesexec",
		KeysURL:  keys.URL, // not needed where the issuer's own address is reached
	})
	if err != nil {
		log.Fatal(err)
	}
	leads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.From(r.Context())
		_, _ = fmt.Fprintf(w, "leads of %s in account %s", claims.Subject, claims.AccountID)
	})
	people := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, _ := bearer.From(r.Context()); claims.OfService() { // Require lets both in
			http.Error(w, "for users", http.StatusForbidden)
			return
		}
		leads(w, r)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /leads", verifier.Require(people))
	mux.Handle("POST /leads", verifier.Require(verifier.RequireScope(leads, "users:write")))

	for _, method := range []string{"GET", "POST"} {
		request := httptest.NewRequest(method, "/leads", nil)
		request.Header.Set("Authorization", "Bearer "+keys.token)
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, request)
		fmt.Println(method, answer.Code, answer.Body)
	}
	// Output:
	// GET 200 leads of u_814 in account acme
	// POST 403 {"code":"insufficient_scope","status":403,"title":"The token lacks a scope","type":"urn:salesexec:problem:insufficient_scope"}
}

type exampleService struct {
	*httptest.Server
	token string
}

func newExampleService() exampleService {
	issuer, err := token.New(token.Config{Issuer: "https://credentials.example.com", Audience: "salesexec", Now: time.Now, NewID: func() string { return "jti" }})
	if err != nil {
		log.Fatal(err)
	}
	key, err := token.NewKey(time.Now())
	if err != nil {
		log.Fatal(err)
	}
	issuer.SetKeys([]token.Key{key})
	minted, _, err := issuer.Mint(token.Claims{Subject: "u_814", ClientID: "app", SessionID: "s1", AccountID: "acme", AuthTime: time.Now()})
	if err != nil {
		log.Fatal(err)
	}
	return exampleService{httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		set, _ := issuer.JWKS()
		_, _ = w.Write(set)
	})), minted.Reveal()}
}
