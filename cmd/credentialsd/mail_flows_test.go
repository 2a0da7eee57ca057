package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// travelled waits until a mail to the address that holds all the parts has come through the SMTP server, and returns it.
func (m *mailServer) travelled(to string, parts ...string) mail {
	m.t.Helper()
	for seen := 0; ; {
		all := m.received(seen + 1)
		for _, arrived := range all[seen:] {
			missing := slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(arrived.text, part) })
			if arrived.to == to && !missing {
				return arrived
			}
		}
		seen = len(all)
	}
}

// The mail really travels: each flow goes from the change through an SMTP server with TLS to the link that is taken out of the
// message, and on to what the link does.
func TestMail_flows(t *testing.T) {
	for name, flow := range map[string]func(t *testing.T, s *service, m *mailServer){
		"an address is confirmed": func(t *testing.T, s *service, m *mailServer) {
			token := s.token("alex", demoPassword)
			s.want(s.change(token, map[string]string{"email": "alex@new.example"}), http.StatusOK, "")
			s.want(s.confirm(m.travelled("alex@new.example", "/confirm-email#").token()), http.StatusOK, "")
			m.travelled("alex@new.example", "was changed")
			m.travelled(alexAddress, "was changed")
		},
		"a reset is redeemed": func(t *testing.T, s *service, m *mailServer) {
			s.want(s.reset(s.token("ada", demoPassword), s.user("alex").ID, map[string]string{"method": "link"}), http.StatusOK, "")
			s.want(s.redeem(m.travelled(alexAddress, "/reset#").token(), "maple orbit lantern quiet"), http.StatusNoContent, "")
			s.want(s.signIn("alex", "maple orbit lantern quiet"), http.StatusCreated, "")
			m.travelled(alexAddress, "password", "was changed")
		},
		"a change is reverted": func(t *testing.T, s *service, m *mailServer) {
			thief := s.token("alex", demoPassword)
			s.want(s.change(thief, map[string]string{"username": "mine.now", "current_password": demoPassword}), http.StatusOK, "")
			done := s.want(s.revert(m.travelled(alexAddress, "mine.now", "/revert#").token()), http.StatusOK, "")
			if done.text("username") != "alex" {
				t.Errorf("got %s", done.raw)
			}
			s.want(s.call(http.MethodGet, "/users/me", thief, nil), http.StatusUnauthorized, "unauthorized")
			m.travelled("ada@demo.example", "alex")
			m.travelled("erin@demo.example", "alex")
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, database := range databases() {
				t.Run(database, func(t *testing.T) {
					m := startMailServer(t)
					flow(t, start(t, databaseURL(t, database), m.env()...), m)
				})
			}
		})
	}
}

// Without a mail transport a change of the e-mail takes effect at once, unconfirmed, and the log says so at the start; an
// address that is taken is a conflict, and there are no links.
func TestMail_noTransport(t *testing.T) {
	for _, database := range databases() {
		t.Run(database, func(t *testing.T) {
			s := serveWithoutMail(t, databaseURL(t, database))
			if !strings.Contains(s.log.String(), "no SMTP_URL is set") {
				t.Error("the log does not say that no mail is sent")
			}
			token := s.token("alex", demoPassword)
			changed := s.want(s.change(token, map[string]string{"email": "alex@new.example"}), http.StatusOK, "")
			if changed.text("email") != "alex@new.example" || changed.body["pending_email"] != nil || changed.body["email_verified"] != false {
				t.Errorf("got %s", changed.raw)
			}
			s.want(s.change(token, map[string]string{"email": "bo@demo.example"}), http.StatusConflict, "identifier_taken")
			refused := s.want(s.reset(s.token("ada", demoPassword), s.user("alex").ID, map[string]string{"method": "link"}), http.StatusUnprocessableEntity, "validation_failed")
			if codes := refused.fieldCodes(); len(codes) != 1 || codes[0] != "/method unavailable" {
				t.Errorf("got %v", codes)
			}
			s.want(s.call(http.MethodGet, "/dev/mail", "", nil), http.StatusNotFound, "not_found")
		})
	}
}

// serveWithoutMail runs serve, which has no mail transport, on a database with the demo accounts.
func serveWithoutMail(t *testing.T, databaseURL string) *service {
	t.Helper()
	variables := serving(databaseURL)
	seeded := start(t, databaseURL, "SEALING_KEY="+variables["SEALING_KEY"])
	if code := seeded.stop(); code != 0 {
		t.Fatalf("dev ended with %d", code)
	}
	s := startServe(t, variables)
	t.Cleanup(func() { s.stop() })
	s.demo.Users, s.demo.Clients = seeded.demo.Users, seeded.demo.Clients
	return s
}
