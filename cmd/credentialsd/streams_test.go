package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/audit"
	"github.com/salesexec/credentials/internal/signal"
)

const (
	pushMethod = "urn:ietf:rfc:8935"
	pollMethod = "urn:ietf:rfc:8936"
	renamed    = "urn:salesexec:secevent:event-type:username-changed"
	changed    = "https://schemas.openid.net/secevent/caep/event-type/credential-change"
)

// streams is POST, PATCH, PUT and the rest of /ssf/streams.
func (s *service) streams(method, token string, body any) answer {
	s.t.Helper()
	return s.call(method, "/ssf/streams", token, body)
}

// another registers a further service and returns its token.
func (s *service) another(id, of, scopes string) string {
	s.t.Helper()
	return s.tokenOf(id, s.secretOf("client create "+id+" "+of+" --scope "+scopes))
}

// SSF-01, SSF-12: the metadata is there for everybody, in exactly these members.
func TestStreams_metadata(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		a := s.want(s.call(http.MethodGet, "/.well-known/ssf-configuration", "", nil), http.StatusOK, "")
		base := s.demo.URL
		want := map[string]any{
			"spec_version": "1_0", "issuer": base, "jwks_uri": base + "/.well-known/jwks.json",
			"delivery_methods_supported": []any{pushMethod, pollMethod}, "configuration_endpoint": base + "/ssf/streams",
			"status_endpoint": base + "/ssf/status", "add_subject_endpoint": base + "/ssf/subjects/add",
			"remove_subject_endpoint": base + "/ssf/subjects/remove", "verification_endpoint": base + "/ssf/verification",
			"authorization_schemes": []any{map[string]any{"spec_urn": "urn:ietf:rfc:6749"}}, "default_subjects": "ALL",
		}
		if diff := cmp.Diff(want, a.body); diff != "" {
			t.Errorf("metadata: %s", diff)
		}
		if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", a.header)
		}
		s.want(s.call(http.MethodPost, "/.well-known/ssf-configuration", "", map[string]string{}), http.StatusMethodNotAllowed, "")
		s.want(s.call(http.MethodGet, "/.well-known/ssf-configuration/other", "", nil), http.StatusNotFound, "")
	})
}

// SSF-04, SSF-05: creating, reading, updating, replacing and deleting, each with every answer that the standard names.
func TestStreams_configuration(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.serviceToken("ssf.manage")
		if a := s.want(s.streams(http.MethodGet, token, nil), http.StatusOK, ""); strings.TrimSpace(string(a.raw)) != "[]" {
			t.Errorf("no stream is %s", a.raw)
		}
		created := s.want(s.streams(http.MethodPost, token, map[string]any{
			"events_requested": []string{"urn:nobody:knows:it", changed, renamed}, "description": "router",
		}), http.StatusCreated, "")
		id := created.text("stream_id")
		want := map[string]any{
			"stream_id": id, "iss": s.demo.URL, "aud": "demo-service", "description": "router", "min_verification_interval": 30.0,
			"delivery":         map[string]any{"method": pollMethod, "endpoint_url": s.demo.URL + "/ssf/streams/" + id + "/poll"},
			"events_supported": created.body["events_supported"], "events_requested": []any{"urn:nobody:knows:it", changed, renamed},
			"events_delivered": []any{changed, renamed},
		}
		if diff := cmp.Diff(want, created.body); diff != "" {
			t.Errorf("created: %s", diff)
		}
		if supported, _ := created.body["events_supported"].([]any); len(supported) != 9 {
			t.Errorf("supported: %v", supported)
		}
		s.want(s.streams(http.MethodPost, token, map[string]any{}), http.StatusConflict, "stream_exists")

		one := s.want(s.call(http.MethodGet, "/ssf/streams?stream_id="+id, token, nil), http.StatusOK, "")
		if diff := cmp.Diff(created.body, one.body); diff != "" || one.header.Get("Cache-Control") != "no-store" { // SSF-12
			t.Errorf("read: %s %v", diff, one.header)
		}
		var list []map[string]any
		a := s.want(s.streams(http.MethodGet, token, nil), http.StatusOK, "")
		if err := json.Unmarshal(a.raw, &list); err != nil || len(list) != 1 || cmp.Diff(created.body, list[0]) != "" {
			t.Errorf("listed: %s", a.raw)
		}

		s.updates(token, id, created.body)

		for _, unknown := range []string{"none", "0198f3a2-5c1e-7b3a-9d41-6f0c2b7e8a10", "%00"} {
			s.want(s.call(http.MethodGet, "/ssf/streams?stream_id="+unknown, token, nil), http.StatusNotFound, "not_found")
			s.want(s.call(http.MethodDelete, "/ssf/streams?stream_id="+unknown, token, nil), http.StatusNotFound, "not_found")
		}
		s.want(s.call(http.MethodDelete, "/ssf/streams", token, nil), http.StatusBadRequest, "malformed_request")
		if gone := s.want(s.call(http.MethodDelete, "/ssf/streams?stream_id="+id, token, nil), http.StatusNoContent, ""); len(gone.raw) != 0 {
			t.Errorf("%s", gone.raw)
		}
		s.want(s.call(http.MethodDelete, "/ssf/streams?stream_id="+id, token, nil), http.StatusNotFound, "not_found")
		s.want(s.streams(http.MethodPost, token, map[string]any{}), http.StatusCreated, "")

		var codes []string
		for _, action := range []audit.Action{audit.StreamCreated, audit.StreamChanged, audit.StreamDeleted, audit.StreamRefused} {
			for _, e := range s.events(action) {
				if e.Actor.ID != "demo-service" {
					t.Errorf("%s by %v", action, e.Actor)
				}
				codes = append(codes, e.Details.Code)
			}
		}
		slices.Sort(codes)
		if diff := cmp.Diff([]string{"malformed_request", "not_found", "stream_exists"}, slices.DeleteFunc(slices.Compact(codes), func(c string) bool { return c == "" })); diff != "" {
			t.Errorf("recorded refusals: %s", diff)
		}
	})
}

// updates changes and replaces a stream's configuration.
func (s *service) updates(token, id string, before map[string]any) {
	s.t.Helper()
	a := s.want(s.streams(http.MethodPatch, token, map[string]any{"stream_id": id, "description": "lead router"}), http.StatusOK, "")
	want := maps.Clone(before)
	want["description"] = "lead router"
	if diff := cmp.Diff(want, a.body); diff != "" {
		s.t.Errorf("updated: %s", diff)
	}
	whole := maps.Clone(a.body) // as it was read, with one member changed
	whole["events_requested"] = []string{renamed}
	a = s.want(s.streams(http.MethodPatch, token, whole), http.StatusOK, "")
	if diff := cmp.Diff([]any{renamed}, a.body["events_delivered"]); diff != "" {
		s.t.Errorf("delivered: %s", diff)
	}
	a = s.want(s.streams(http.MethodPut, token, map[string]any{"stream_id": id, "events_requested": []string{changed}}), http.StatusOK, "")
	if a.body["description"] != nil || cmp.Diff([]any{changed}, a.body["events_delivered"]) != "" {
		s.t.Errorf("replaced: %s", a.raw)
	}
	a = s.want(s.streams(http.MethodPut, token, map[string]any{"stream_id": id}), http.StatusOK, "")
	if diff := cmp.Diff(a.body["events_supported"], a.body["events_delivered"]); diff != "" || a.body["events_requested"] != nil {
		s.t.Errorf("not asking is asking for everything: %s", a.raw)
	}
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		for name, wrong := range map[string]map[string]any{
			"iss": {"iss": "https://evil.example"}, "aud": {"aud": "another"}, "events_supported": {"events_supported": []string{changed}},
			"events_delivered": {"events_delivered": []string{}}, "min_verification_interval": {"min_verification_interval": 1},
			"an endpoint of a poll": {"delivery": map[string]string{"method": pollMethod, "endpoint_url": "https://evil.example/poll"}},
			"a header of a poll":    {"delivery": map[string]string{"method": pollMethod, "authorization_header": "Bearer x"}},
			"no method":             {"delivery": map[string]string{"endpoint_url": "https://router.example.com"}},
			"another method":        {"delivery": map[string]string{"method": "urn:ietf:rfc:1149"}},
			"no endpoint":           {"delivery": map[string]string{"method": pushMethod}},
			"a header of two lines": {"delivery": map[string]string{"method": pushMethod, "endpoint_url": "https://router.example.com", "authorization_header": "Bearer x\r\nHost: evil"}},
			"no event types":        {"events_requested": []string{}}, "too many": {"events_requested": make([]string, 101)},
			"a long description": {"description": strings.Repeat("x", 201)}, "an unknown member": {"format": "iss_sub"}, "null": {"description": nil},
		} {
			body := map[string]any{"stream_id": id}
			maps.Copy(body, wrong)
			if a := s.streams(method, token, body); a.status != http.StatusBadRequest || a.code() != "malformed_request" {
				s.t.Errorf("%s with %s: %d %s", method, name, a.status, a.raw)
			}
		}
		s.want(s.streams(method, token, map[string]any{"description": "x"}), http.StatusNotFound, "not_found")
		s.want(s.streams(method, token, map[string]any{"stream_id": "0198f3a2-5c1e-7b3a-9d41-6f0c2b7e8a10"}), http.StatusNotFound, "not_found")
		s.want(s.streams(method, token, "{"), http.StatusBadRequest, "malformed_request")
	}
	s.want(s.streams(http.MethodPost, token, "nothing"), http.StatusBadRequest, "malformed_request")
}

// SSF-03, SSF-04: every operation needs a token with the scope, and a stream is its own receiver's alone.
func TestStreams_authorization(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		manager := s.serviceToken("ssf.manage")
		id := s.want(s.streams(http.MethodPost, manager, map[string]any{}), http.StatusCreated, "").text("stream_id")
		reader, other, none := s.serviceToken("ssf.read"), s.another("eavesdropper", "--account demo", "ssf.manage"), s.serviceToken("users:read")
		subject := map[string]any{"stream_id": id, "subject": map[string]string{"format": "opaque", "id": "x"}}
		for name, request := range map[string]struct {
			method, path string
			body         any
			reads        bool
		}{
			"read":           {http.MethodGet, "/ssf/streams?stream_id=" + id, nil, true},
			"update":         {http.MethodPatch, "/ssf/streams", map[string]string{"stream_id": id}, false},
			"replace":        {http.MethodPut, "/ssf/streams", map[string]string{"stream_id": id}, false},
			"get status":     {http.MethodGet, "/ssf/status?stream_id=" + id, nil, true},
			"set status":     {http.MethodPost, "/ssf/status", map[string]string{"stream_id": id, "status": "enabled"}, false},
			"add subject":    {http.MethodPost, "/ssf/subjects/add", subject, false},
			"remove subject": {http.MethodPost, "/ssf/subjects/remove", subject, false},
			"verify":         {http.MethodPost, "/ssf/verification", map[string]string{"stream_id": id}, true},
			"poll":           {http.MethodPost, "/ssf/streams/" + id + "/poll", map[string]bool{"returnImmediately": true}, true}, // POL-06
			"delete":         {http.MethodDelete, "/ssf/streams?stream_id=" + id, nil, false},
		} {
			if a := s.call(request.method, request.path, "", request.body); a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s without a token: %d %v", name, a.status, a.header) // POL-03b
			}
			if a := s.call(request.method, request.path, none, request.body); a.code() != "insufficient_scope" {
				t.Errorf("%s without the scope: %d %s", name, a.status, a.raw)
			}
			if a := s.call(request.method, request.path, s.token("ada", demoPassword), request.body); a.code() != "forbidden" {
				t.Errorf("%s as a user: %d %s", name, a.status, a.raw)
			}
			if a := s.call(request.method, request.path, other, request.body); a.code() != "not_found" {
				t.Errorf("%s by another receiver: %d %s", name, a.status, a.raw)
			}
			if a := s.call(request.method, request.path, reader, request.body); (a.status < 300) != request.reads || !request.reads && a.code() != "insufficient_scope" {
				t.Errorf("%s with ssf.read: %d %s", name, a.status, a.raw)
			}
		}
		s.want(s.streams(http.MethodPost, reader, map[string]any{}), http.StatusForbidden, "insufficient_scope")
		s.want(s.call(http.MethodGet, "/ssf/status?stream_id="+id, manager, nil), http.StatusOK, "") // it is all still there
	})
}

// SSF-04, SSF-08: a paused stream holds what happens and delivers it in order for each user; a disabled one drops it.
func TestStreams_status(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{renamed}})
		status := func(body any) answer { return s.call(http.MethodPost, "/ssf/status", l.token, body) }
		if a := s.want(s.call(http.MethodGet, "/ssf/status?stream_id="+l.id, l.token, nil), http.StatusOK, ""); cmp.Diff(map[string]any{"stream_id": l.id, "status": "enabled"}, a.body) != "" {
			t.Errorf("%s", a.raw)
		}
		alex, bo := s.token("alex", demoPassword), s.token("bo", demoPassword)
		names := []string{"alex.one", "alex.two", "alex.three"} // the first waits already when the stream is paused
		s.want(s.change(alex, map[string]string{"username": names[0]}), http.StatusOK, "")
		paused := s.want(status(map[string]string{"stream_id": l.id, "status": "paused", "reason": "Maintenance"}), http.StatusOK, "")
		if diff := cmp.Diff(map[string]any{"stream_id": l.id, "status": "paused", "reason": "Maintenance"}, paused.body); diff != "" {
			t.Errorf("paused: %s", diff)
		}
		for _, name := range names[1:] {
			s.want(s.change(alex, map[string]string{"username": name}), http.StatusOK, "")
		}
		s.want(s.change(bo, map[string]string{"username": "bo.one"}), http.StatusOK, "")
		if got := l.drain(); len(got) != 0 {
			t.Errorf("%d events of a paused stream", len(got))
		}
		s.want(status(map[string]string{"stream_id": l.id, "status": "enabled"}), http.StatusOK, "")
		var order []string
		for _, got := range l.drain() {
			if _, claims := got.event(); got.user() == s.user("alex").ID {
				order = append(order, claims["new_username"].(string))
			}
		}
		if diff := cmp.Diff(names, order); diff != "" {
			t.Errorf("held: %s", diff)
		}

		s.want(s.change(alex, map[string]string{"username": "alex.four"}), http.StatusOK, "")
		s.want(status(map[string]string{"stream_id": l.id, "status": "disabled"}), http.StatusOK, "")
		s.want(s.change(alex, map[string]string{"username": "alex.five"}), http.StatusOK, "")
		s.want(status(map[string]string{"stream_id": l.id, "status": "enabled"}), http.StatusOK, "")
		if got := l.drain(); len(got) != 0 {
			t.Errorf("%d events of a disabled stream", len(got))
		}

		for name, wrong := range map[string]any{
			"no status": map[string]string{"stream_id": l.id}, "an unknown status": map[string]string{"stream_id": l.id, "status": "off"},
			"a long reason": map[string]string{"stream_id": l.id, "status": "paused", "reason": strings.Repeat("x", 201)}, "no JSON": "{",
			"U+0000": map[string]string{"stream_id": l.id, "status": "paused", "reason": "\x00"},
		} {
			if a := status(wrong); a.status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
		}
		s.want(status(map[string]string{"stream_id": "none", "status": "paused"}), http.StatusNotFound, "not_found")
		s.want(s.call(http.MethodGet, "/ssf/status?stream_id=none", l.token, nil), http.StatusNotFound, "not_found")
		s.want(s.call(http.MethodGet, "/ssf/status", l.token, nil), http.StatusBadRequest, "malformed_request")
	})
}

// SSF-04, SSF-06: a verification echoes its state exactly, whatever the stream delivers; asking too often is a 429.
func TestStreams_verification(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{"urn:nothing"}})
		verify := func(body any) answer { return s.call(http.MethodPost, "/ssf/verification", l.token, body) }
		const state = "VGhpcyBpcyBhbiBleGFtcGxlIHN0YXRlIHZhbHVlLgo= <&>\u0000é\U0001F600"
		if a := s.want(verify(map[string]string{"stream_id": l.id, "state": state}), http.StatusNoContent, ""); len(a.raw) != 0 {
			t.Errorf("%s", a.raw)
		}
		again := s.want(verify(map[string]string{"stream_id": l.id}), http.StatusTooManyRequests, "throttled")
		if wait := s.retryAfter(again); wait < time.Second || wait > 30*time.Second {
			t.Errorf("wait %s", wait)
		}
		s.operator("stream verify "+l.id, 0)
		s.clock.advance(31 * time.Second)
		s.want(verify(map[string]string{"stream_id": l.id}), http.StatusNoContent, "")
		got := l.drain()
		if len(got) != 3 {
			t.Fatalf("%d verifications", len(got))
		}
		for i, want := range []map[string]any{{"state": state}, {}, {}} {
			kind, claims := got[i].event()
			if diff := cmp.Diff(want, claims); diff != "" || kind != "https://schemas.openid.net/secevent/ssf/event-type/verification" {
				t.Errorf("%s: %s", kind, diff)
			}
			if diff := cmp.Diff(map[string]any{"format": "opaque", "id": l.id}, got[i].claims["sub_id"]); diff != "" {
				t.Errorf("subject: %s", diff)
			}
		}
		for name, wrong := range map[string]any{
			"a long state": map[string]string{"stream_id": l.id, "state": strings.Repeat("x", 1025)}, "a number": map[string]any{"stream_id": l.id, "state": 1}, "no JSON": "{",
		} {
			if a := verify(wrong); a.status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", name, a.status, a.raw)
			}
		}
		s.want(verify(map[string]string{"stream_id": "none"}), http.StatusNotFound, "not_found")
	})
}

// SSF-07: what the operator does to a stream is told first, also while it delivers nothing else.
func TestStreams_updated(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{renamed}})
		s.want(s.change(s.token("alex", demoPassword), map[string]string{"username": "alex.reed"}), http.StatusOK, "")
		wantUpdated := func(status string, more ...string) {
			t.Helper()
			got := l.drain()
			var kinds []string
			for _, one := range got {
				kinds = append(kinds, one.kind())
				if one.kind() != "stream-updated" {
					continue
				}
				_, claims := one.event()
				if diff := cmp.Diff(map[string]any{"format": "opaque", "id": l.id}, one.claims["sub_id"]); diff != "" || claims["status"] != status || claims["reason"] == "" {
					t.Errorf("%s: %v %s", status, claims, diff)
				}
			}
			slices.Sort(kinds)
			if diff := cmp.Diff(append([]string{"stream-updated"}, more...), kinds); diff != "" {
				t.Errorf("%s: %s", status, diff)
			}
		}
		s.operator("stream pause "+l.id+" --reason Maintenance", 0, l.id+" is paused")
		wantUpdated("paused")
		s.operator("stream enable "+l.id, 0, l.id+" is enabled")
		wantUpdated("enabled", "username-changed")
		s.operator("stream disable "+l.id+" --reason Unused", 0, l.id+" is disabled")
		wantUpdated("disabled")
		s.operator("stream pause 0198f3a2-5c1e-7b3a-9d41-6f0c2b7e8a10", 1, "there is no such stream")

		// What waits for too long disables its stream, and the receiver hears of that when it is back.
		s.operator("stream enable "+l.id, 0)
		wantUpdated("enabled")
		s.want(s.change(s.token("alex.reed", demoPassword), map[string]string{"username": "alex"}), http.StatusOK, "")
		s.clock.advance(169 * time.Hour)
		l.token = s.serviceToken("ssf.manage")
		if err := s.expire(); err != nil {
			t.Fatal(err)
		}
		wantUpdated("disabled")
		s.want(s.call(http.MethodPost, "/ssf/status", l.token, map[string]string{"stream_id": l.id, "status": "enabled"}), http.StatusOK, "")
		s.want(s.change(s.token("alex", demoPassword), map[string]string{"username": "alex.again"}), http.StatusOK, "")
		if got := l.drain(); len(got) != 1 || got[0].kind() != "username-changed" {
			t.Errorf("%d events after it was enabled", len(got))
		}

		// A receiver that was away for as long again is not given up once more for what the stream told it meanwhile.
		s.want(s.change(s.token("alex.again", demoPassword), map[string]string{"username": "alex"}), http.StatusOK, "")
		for range 2 {
			s.clock.advance(169 * time.Hour)
			if err := s.expire(); err != nil {
				t.Fatal(err)
			}
		}
		l.token = s.serviceToken("ssf.manage")
		s.want(s.call(http.MethodPost, "/ssf/status", l.token, map[string]string{"stream_id": l.id, "status": "enabled"}), http.StatusOK, "")
		if err := s.expire(); err != nil {
			t.Fatal(err)
		}
		if list := s.operator("stream list", 0, l.id, "demo-service", "enabled", "poll"); strings.Contains(list, "push") {
			t.Errorf("%s", list)
		}
	})
}

// SSF-10: subjects that do not exist get the same answer; users and accounts that were removed are heard of no longer.
func TestStreams_subjects(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		l := s.listen(map[string]any{"events_requested": []string{renamed}})
		far := s.listenAs(s.another("everywhere", "--all-accounts", "ssf.manage"))
		alex, bo, olga := s.token("alex", demoPassword), s.token("bo", demoPassword), s.token("olga", demoPassword)
		user := func(name string) map[string]any {
			return map[string]any{"format": "iss_sub", "iss": s.demo.URL, "sub": s.user(name).ID}
		}
		account := func(id string) map[string]any {
			return map[string]any{"format": "complex", "tenant": map[string]string{"format": "opaque", "id": id}}
		}
		add := func(l *listener, subject any) answer {
			return s.call(http.MethodPost, "/ssf/subjects/add", l.token, map[string]any{"stream_id": l.id, "subject": subject, "verified": false})
		}
		remove := func(l *listener, subject any) answer {
			return s.call(http.MethodPost, "/ssf/subjects/remove", l.token, map[string]any{"stream_id": l.id, "subject": subject})
		}
		n := 0
		heard := func(l *listener) string {
			t.Helper()
			n++
			for name, token := range map[string]string{"alex": alex, "bo": bo, "olga": olga} {
				s.want(s.change(token, map[string]string{"username": name + "." + strings.Repeat("i", n)}), http.StatusOK, "")
			}
			var who []string
			for _, one := range l.drain() {
				who = append(who, l.nameOf(one.user()))
			}
			slices.Sort(who)
			return strings.Join(who, " ")
		}
		wantHeard := func(what string, l *listener, want string) {
			t.Helper()
			if got := heard(l); got != want {
				t.Errorf("%s: heard of %q, want %q", what, got, want)
			}
		}
		wantHeard("a service of one account", l, "alex bo")
		far.drain()
		wantHeard("a service of all accounts", far, "alex bo olga")
		l.drain()

		if a := s.want(remove(l, user("alex")), http.StatusNoContent, ""); len(a.raw) != 0 {
			t.Errorf("%s", a.raw)
		}
		wantHeard("a removed user", l, "bo")
		if a := s.want(add(l, map[string]string{"format": "opaque", "id": s.user("alex").ID}), http.StatusOK, ""); len(a.raw) != 0 {
			t.Errorf("%s", a.raw)
		}
		wantHeard("added again", l, "alex bo")
		far.drain()
		s.want(remove(far, account("demo")), http.StatusNoContent, "")
		wantHeard("a removed account", far, "olga")
		s.want(add(far, map[string]any{"format": "complex", "user": user("bo"), "tenant": map[string]string{"format": "opaque", "id": "demo"}}), http.StatusOK, "")
		wantHeard("one user of a removed account", far, "bo olga")
		s.want(remove(far, account("*")), http.StatusNoContent, "")
		s.want(add(far, account("other")), http.StatusOK, "")
		wantHeard("one account alone", far, "olga")
		l.drain()

		// Nothing of this says whether the subject exists, and none of it makes a difference.
		for name, subject := range map[string]any{
			"an unknown user": map[string]string{"format": "opaque", "id": "nobody"}, "a user of another account": user("olga"),
			"an e-mail address":       map[string]string{"format": "email", "email": "bo@demo.example"},
			"a user of somebody":      map[string]string{"format": "iss_sub", "iss": "https://idp.example.com", "sub": s.user("bo").ID},
			"an account out of sight": account("other"), "an unknown account": account("nowhere"), "U+0000": account("\x00"), "no id": map[string]string{"format": "opaque", "id": "\x00"},
			"a device":              map[string]any{"format": "complex", "user": user("bo"), "device": map[string]string{"format": "opaque", "id": "x"}},
			"a user of another one": map[string]any{"format": "complex", "user": user("bo"), "tenant": map[string]string{"format": "opaque", "id": "other"}},
		} {
			if a, b := remove(l, subject), add(l, subject); a.status != http.StatusNoContent || b.status != http.StatusOK || len(a.raw)+len(b.raw) != 0 {
				t.Errorf("%s: %d %s, %d %s", name, a.status, a.raw, b.status, b.raw)
			}
			s.want(remove(l, subject), http.StatusNoContent, "")
		}
		wantHeard("subjects that do not exist", l, "alex bo")
		for name, subject := range map[string]any{
			"no format": map[string]string{"id": "x"}, "no subject": map[string]string{"format": "iss_sub"}, "no id": map[string]string{"format": "opaque"},
			"nothing in it": map[string]string{"format": "complex"}, "a text": "x", "a number": map[string]any{"format": "opaque", "id": 1},
			"another tenant": map[string]any{"format": "complex", "tenant": user("bo")},
		} {
			if a, b := remove(l, subject), add(l, subject); a.status != http.StatusBadRequest || b.status != http.StatusBadRequest {
				t.Errorf("%s: %d %s, %d %s", name, a.status, a.raw, b.status, b.raw)
			}
		}
		missing := &listener{service: s, id: "none", token: l.token}
		s.want(add(missing, user("bo")), http.StatusNotFound, "not_found")
		s.want(remove(missing, user("bo")), http.StatusNotFound, "not_found")
	})
}

// listenAs creates a stream of renames with another service's token.
func (s *service) listenAs(token string) *listener {
	s.t.Helper()
	id := s.want(s.streams(http.MethodPost, token, map[string]any{"events_requested": []string{renamed}}), http.StatusCreated, "").text("stream_id")
	return &listener{service: s, id: id, token: token}
}

// expire does what the service does about overdue streams once a minute.
func (s *service) expire() error {
	s.t.Helper()
	db := s.outboxOf()
	config := signal.Config{Issuer: s.demo.URL, Retention: 168 * time.Hour, Now: s.clock.now}
	return signal.New(config, db, signal.NewRing(db, time.Hour, s.clock.now), signal.NewHub()).Expire(context.Background())
}
