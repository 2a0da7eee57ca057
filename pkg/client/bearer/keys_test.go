package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/token"
	"github.com/salesexec/credentials/pkg/client/bearer"
)

// JWT-09: a thousand unknown ids cause at most one fetch a minute, whoever sends them.
func TestKeys_unknownIDs(t *testing.T) {
	s := newService(t)
	v := newVerifier(t, s.config())
	for minute := 1; minute <= 2; minute++ {
		var callers sync.WaitGroup
		for i := range 1000 {
			callers.Go(func() {
				raw := forge(goodHeader(fmt.Sprint("unknown-", i)), goodPayload(), with(s.key))
				if _, err := v.Verify(t.Context(), raw); !errors.Is(err, bearer.ErrInvalid) {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
		if s.fetches != minute {
			t.Errorf("%d fetches in %d minutes", s.fetches, minute)
		}
		s.advance(time.Minute)
	}
}

// JWT-10: a new key is learnt when a token names it, a key that was taken back is forgotten, and an outage keeps what is known.
func TestKeys_rotation(t *testing.T) {
	s := newService(t)
	v := newVerifier(t, s.config())
	old := s.mint(t, userClaims())
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	next := newKey(t)
	s.SetKeys([]token.Key{next})
	s.advance(time.Minute)
	fresh := forge(goodHeader(next.ID), goodPayload(), with(next))
	if _, err := v.Verify(t.Context(), fresh); err != nil {
		t.Errorf("the new key is not learnt: %v", err)
	}
	wantRefused(t, v, old, "unknown key")

	s.mu.Lock()
	s.answer = func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }
	s.fetched = make(chan struct{}, 1)
	s.mu.Unlock()
	s.advance(10 * time.Minute)
	if _, err := v.Verify(t.Context(), fresh); err != nil { // begins a fetch beside it
		t.Errorf("a stale key is refused: %v", err)
	}
	<-s.fetched
	if _, err := v.Verify(t.Context(), fresh); err != nil {
		t.Errorf("an outage takes the key away: %v", err)
	}
	if err := v.Refresh(t.Context()); err == nil {
		t.Error("a failed refresh is none")
	}
	if _, err := v.Verify(t.Context(), old); !errors.Is(err, bearer.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// Without a usable answer no token can be judged, which is not the fault of its bearer; that is tried again within seconds.
func TestKeys_outageAtTheStart(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"an error": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no JSON":  func(w http.ResponseWriter) { _, _ = w.Write([]byte("<p>")) },
		"no keys":  func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"a weak key": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k","x":"AAAA"}]}`))
		},
		"not to verify": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k","use":"enc","x":"` + strings.Repeat("A", 43) + `"}]}`))
		},
		"too long":  func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat(" ", 256<<10+1))) },
		"elsewhere": func(w http.ResponseWriter) { w.Header().Set("Location", "/keys"); w.WriteHeader(http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			s.answer = answer
			v := newVerifier(t, s.config())
			raw := s.mint(t, userClaims())
			for range 3 {
				if _, err := v.Verify(t.Context(), raw); !errors.Is(err, bearer.ErrUnavailable) || errors.Is(err, bearer.ErrInvalid) {
					t.Errorf("got %v", err)
				}
			}
			s.mu.Lock()
			s.answer = nil
			s.mu.Unlock()
			if s.fetches != 1 {
				t.Errorf("%d fetches", s.fetches)
			}
			s.advance(5 * time.Second)
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
}

// A caller that gives up does not spoil the fetch that others wait for.
func TestKeys_impatientCaller(t *testing.T) {
	s := newService(t)
	release := make(chan struct{})
	arrived := make(chan struct{})
	published, err := s.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	s.answer = func(w http.ResponseWriter) {
		close(arrived)
		<-release
		_, _ = w.Write(published)
	}
	v := newVerifier(t, s.config())
	raw := s.mint(t, userClaims())
	ctx, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := v.Verify(ctx, raw)
		gaveUp <- err
	}()
	<-arrived
	giveUp()
	if err := <-gaveUp; !errors.Is(err, bearer.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	var patient sync.WaitGroup
	for range 20 {
		patient.Go(func() {
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	patient.Wait()
	if s.fetches != 1 {
		t.Errorf("%d fetches", s.fetches)
	}
}
