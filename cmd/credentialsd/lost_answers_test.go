package main

import (
	"io"
	"net/http"
	"testing"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/pkg/client"
)

// forgetful carries requests out and loses the first answer to each change.
type forgetful struct {
	next client.HttpRequestDoer
	seen map[string]int // attempts by Idempotency-Key
}

func (f *forgetful) Do(r *http.Request) (*http.Response, error) {
	response, err := f.next.Do(r)
	key := r.Header.Get("Idempotency-Key")
	if err != nil || key == "" {
		return response, err
	}
	f.seen[key]++
	if f.seen[key] > 1 {
		return response, nil
	}
	_ = response.Body.Close() // it is lost
	return nil, io.ErrUnexpectedEOF
}

// A network that loses answers: the client repeats a change with its key, which has one effect, and has its tokens in the end.
func TestClient_lostAnswers(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ctx, network := t.Context(), &forgetful{next: s.http, seen: map[string]int{}}
		tokens, err := s.newClient().SignIn(ctx, "alex", demoPassword)
		if err != nil {
			t.Fatal(err)
		}
		alex := s.newClient(client.WithHTTPClient(network), client.WithSession(*tokens, nil))
		changed, _, err := alex.ChangeMyCredentials(ctx, client.OwnCredentialsChange{NewPassword: ptr("maple orbit lantern quiet"), CurrentPassword: ptr(demoPassword)}, "")
		if err != nil || changed.AccessToken == nil || len(network.seen) != 1 {
			t.Fatalf("got %+v, %v after %v", changed, err, network.seen)
		}
		if me, _, err := alex.GetMe(ctx); err != nil || me.Username != "alex" {
			t.Errorf("with the tokens of the answer: %+v, %v", me, err)
		}

		dialer := s.demo.Clients[0]
		machine := s.newClient(client.WithHTTPClient(network), client.WithClientCredentials(dialer.ClientID, dialer.ClientSecret))
		reset, _, err := machine.ResetPassword(ctx, s.user("bo").ID, client.PasswordReset{}, "")
		if err != nil || reset.TemporaryPassword == nil || len(network.seen) != 2 {
			t.Fatalf("got %+v, %v after %v", reset, err, network.seen)
		}
		s.want(s.signIn("bo", *reset.TemporaryPassword), http.StatusCreated, "")

		for key, attempts := range network.seen {
			if attempts != 2 {
				t.Errorf("%s was sent %d times", key, attempts)
			}
		}
		for _, action := range []audit.Action{audit.CredentialsChanged, audit.PasswordReset} {
			if events := s.events(action); len(events) != 1 {
				t.Errorf("%d events %s, not one", len(events), action)
			}
		}
	})
}
