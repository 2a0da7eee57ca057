package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// likeExample fails the test unless a JSON text has the members of a standard's example and no others, each of the example's
// type, all the way down. A member named "*" in the example stands for any number of any name. Members that the standard
// leaves to choice are listed by their paths: they may be missing from the text, or be in it without being in the example.
func likeExample(t *testing.T, section, example string, text []byte, optional ...string) {
	t.Helper()
	var want, got any
	if err := json.Unmarshal([]byte(example), &want); err != nil {
		t.Fatalf("%s: the example: %v", section, err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s: %v in %s", section, err, text)
	}
	for _, difference := range unlike("", want, got, optional) {
		t.Errorf("%s: %s\n%s", section, difference, text)
	}
}

func unlike(path string, want, got any, optional []string) (differences []string) {
	switch example := want.(type) {
	case map[string]any:
		members, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is no object", path)}
		}
		for name := range members {
			if _, there := example[name]; !there && example["*"] == nil && !slices.Contains(optional, path+"/"+name) {
				differences = append(differences, fmt.Sprintf("%s/%s is not in the example", path, name))
			}
		}
		for name, inner := range example {
			for _, actual := range slices.Sorted(maps.Keys(members)) {
				if actual == name || name == "*" {
					differences = append(differences, unlike(path+"/"+name, inner, members[actual], optional)...)
				}
			}
			if _, there := members[name]; !there && name != "*" && !slices.Contains(optional, path+"/"+name) {
				differences = append(differences, fmt.Sprintf("%s/%s is missing", path, name))
			}
		}
	case []any:
		items, ok := got.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s is no array", path)}
		}
		for _, item := range items {
			differences = append(differences, unlike(path+"/0", example[0], item, optional)...)
		}
	default:
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
			differences = append(differences, fmt.Sprintf("%s is a %T, in the example a %T", path, got, want))
		}
	}
	return differences
}

// unlike itself: what it is there to find.
func TestUnlike(t *testing.T) {
	for text, want := range map[string]int{
		`{"a":1,"b":["x"],"c":{"any":true}}`: 0, `{"a":2,"b":[],"c":{}}`: 0, `{"a":1,"b":["x"],"c":{},"o":1}`: 0,
		`{"a":"1","b":["x"],"c":{}}`: 1, `{"a":1,"b":[1],"c":{}}`: 1, `{"a":1,"b":"x","c":{}}`: 1, `{"b":["x"],"c":{"any":1}}`: 2, `{"a":1,"b":[],"c":{},"d":1}`: 1, `[]`: 1,
	} {
		var example, got any
		if json.Unmarshal([]byte(`{"a":1,"b":["x"],"c":{"*":true}}`), &example) != nil || json.Unmarshal([]byte(text), &got) != nil {
			t.Fatal("no JSON")
		}
		if found := unlike("", example, got, []string{"/o"}); len(found) != want {
			t.Errorf("%s: %v", text, found)
		}
	}
}

// RFC 6749 sections 4.4.3 and 5.2: the answers have the form of the examples. A client needs no refresh token, and is told what
// it got; the parameter of the example is the example's.
func TestExamples_oauth(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	client := s.demo.Clients[0]
	issued := s.want(s.oauth("grant_type=client_credentials", client.ClientID, client.ClientSecret), http.StatusOK, "")
	likeExample(t, "RFC 6749 section 4.4.3", `{
		"access_token":"2YotnFZFEjr1zCsicMWpAA",
		"token_type":"example",
		"expires_in":3600,
		"example_parameter":"example_value"
	}`, issued.raw, "/example_parameter", "/scope")
	refused := s.oauth("grant_type=password", client.ClientID, client.ClientSecret)
	wantRefusal(t, refused, http.StatusBadRequest, "unsupported_grant_type")
	likeExample(t, "RFC 6749 section 5.2", `{"error":"invalid_request"}`, refused.raw, "/error_description")
}

// RFC 8936 sections 2.3 and 2.4: the requests of the standard are understood as they stand there, and the answers have the form of
// the examples.
func TestExamples_poll(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"), "SIGNALS_POLL_TIMEOUT=1s")
	l := s.listen(map[string]any{"events_requested": []string{renamed}})
	for section, request := range map[string]string{
		"2.4.1, poll only":            `{"maxEvents": 10, "returnImmediately": true}`,
		"2.4.1, wait":                 `{"maxEvents": 10, "returnImmediately": false}`,
		"2.4.1, no members":           `{}`,
		"2.4.2, acknowledge only":     `{"ack": ["4d3559ec67504aaba65d40b0363faad8", "3d0c3cf797584bd193bd0fb1bd4e7d30"], "maxEvents": 0}`,
		"2.4.3, poll and acknowledge": `{"ack": ["4d3559ec67504aaba65d40b0363faad8", "3d0c3cf797584bd193bd0fb1bd4e7d30"], "returnImmediately": false}`,
		"2.4.4, poll with errors": `{"ack": ["3d0c3cf797584bd193bd0fb1bd4e7d30"], "setErrs": {"4d3559ec67504aaba65d40b0363faad8": {"err": "authentication_failed",
			"description": "The SET could not be authenticated"}}, "returnImmediately": true}`,
	} {
		a := s.want(l.pollRaw(request), http.StatusOK, "")
		if got := strings.TrimSpace(string(a.raw)); got != `{"sets":{}}` || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("RFC 8936 section %s: %s %s", section, a.header.Get("Content-Type"), got)
		}
	}
	alex := s.token("alex", demoPassword)
	for _, name := range []string{"alex.reed", "alex.read"} {
		s.want(s.change(alex, map[string]string{"username": name}), http.StatusOK, "")
	}
	s.want(s.change(s.token("bo", demoPassword), map[string]string{"username": "bo.hart"}), http.StatusOK, "")
	for request, many := range map[string]int{`{"maxEvents":1,"returnImmediately":true}`: 1, `{"returnImmediately":true}`: 2} {
		a := s.want(l.pollRaw(request), http.StatusOK, "")
		likeExample(t, "RFC 8936 section 2.3", `{"sets": {"*": "eyJhbGciOiJub25lIn0.eyJqdGkiOiI0ZDM1NTllYzY3NTA0YWFiYTY1ZDQwYjAzNjNmYWFkOCJ9."}, "moreAvailable": true}`, a.raw, "/moreAvailable")
		if sets, _ := a.body["sets"].(map[string]any); len(sets) != many {
			t.Errorf("%d events to %s", len(sets), request)
		}
	}
	refused := s.want(l.pollRaw(`{"maxEvents":"all"}`), http.StatusBadRequest, "malformed_request")
	if strings.Contains(string(refused.raw), "sets") {
		t.Errorf("RFC 8936 section 2.5: %s", refused.raw)
	}
}

// OpenID SSF 1.0 sections 7.1, 8.1.1, 8.1.2, 8.1.4 and 8.1.5: answers and events have the form of the examples. The last two come
// with a push as RFC 8935 section 2.1 shows it.
func TestExamples_streams(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	likeExample(t, "SSF 1.0 section 7.1", `{
		"spec_version": "1_0",
		"issuer": "https://tr.example.com",
		"jwks_uri": "https://tr.example.com/jwks.json",
		"delivery_methods_supported": ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"],
		"configuration_endpoint": "https://tr.example.com/ssf/mgmt/stream",
		"status_endpoint": "https://tr.example.com/ssf/mgmt/status",
		"add_subject_endpoint": "https://tr.example.com/ssf/mgmt/subject:add",
		"remove_subject_endpoint": "https://tr.example.com/ssf/mgmt/subject:remove",
		"verification_endpoint": "https://tr.example.com/ssf/mgmt/verification",
		"critical_subject_members": ["tenant", "user"],
		"authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}],
		"default_subjects": "NONE"
	}`, s.want(s.call(http.MethodGet, "/.well-known/ssf-configuration", "", nil), http.StatusOK, "").raw, "/critical_subject_members")

	e := newEndpoint(t, httptest.NewServer)
	l := &listener{service: s, token: s.serviceToken("ssf.manage")}
	created := s.want(s.streams(http.MethodPost, l.token, `{
		"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "`+e.URL+`"},
		"events_requested": ["urn:example:secevent:events:type_2", "urn:example:secevent:events:type_3", "`+renamed+`"],
		"description" : "Stream for Receiver A using events type_2, type_3, type_4"
	}`), http.StatusCreated, "")
	l.id = created.text("stream_id")
	configuration := `{
		"stream_id": "f67e39a0a4d34d56b3aa1bc4cff0069f",
		"iss": "https://tr.example.com",
		"aud": "https://receiver.example.com/web",
		"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": "https://receiver.example.com/events"},
		"events_supported": ["urn:example:secevent:events:type_1"],
		"events_requested": ["urn:example:secevent:events:type_2"],
		"events_delivered": ["urn:example:secevent:events:type_2"],
		"description" : "Stream for Receiver A using events type_2, type_3, type_4"
	}`
	likeExample(t, "SSF 1.0 section 8.1.1.1", configuration, created.raw, "/min_verification_interval")
	listed := s.want(s.streams(http.MethodGet, l.token, nil), http.StatusOK, "")
	likeExample(t, "SSF 1.0 section 8.1.1.2", "["+configuration+"]", listed.raw, "/0/min_verification_interval")
	likeExample(t, "SSF 1.0 section 8.1.2.1", `{"stream_id": "f67e39a0a4d34d56b3aa1bc4cff0069f", "status": "paused", "reason": "SYSTEM_DOWN_FOR_MAINTENANCE"}`,
		s.want(s.call(http.MethodGet, "/ssf/status?stream_id="+l.id, l.token, nil), http.StatusOK, "").raw, "/reason")

	s.want(s.call(http.MethodPost, "/ssf/verification", l.token, `{"stream_id": "`+l.id+`", "state": "VGhpcyBpcyBhbiBleGFtcGxlIHN0YXRlIHZhbHVlLgo="}`), http.StatusNoContent, "")
	push, _ := e.next(l)
	for name, want := range map[string]string{"Accept": "application/json", "Content-Type": "application/secevent+jwt"} {
		if push.Method != http.MethodPost || push.Header.Get(name) != want {
			t.Errorf("RFC 8935 section 2.1: %s %s: %s", push.Method, name, push.Header.Get(name))
		}
	}
	likeExample(t, "SSF 1.0 section 8.1.4.1", `{
		"jti": "123456",
		"iss": "https://transmitter.example.com",
		"aud": "receiver.example.com",
		"iat": 1493856000,
		"sub_id": {"format": "opaque", "id": "f67e39a0a4d34d56b3aa1bc4cff0069f"},
		"events": {"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "VGhpcyBpcyBhbiBleGFtcGxlIHN0YXRlIHZhbHVlLgo="}}
	}`, claimsIn(t, push.body), "/txn")
	if got := string(claimsIn(t, push.body)); !strings.Contains(got, `"state":"VGhpcyBpcyBhbiBleGFtcGxlIHN0YXRlIHZhbHVlLgo="`) || !strings.Contains(got, l.id) {
		t.Errorf("SSF 1.0 section 8.1.4.1: %s", got)
	}

	s.operator("stream pause "+l.id+" --reason license", 0)
	push, _ = e.next(l)
	likeExample(t, "SSF 1.0 section 8.1.5", `{
		"jti": "123456",
		"iss": "https://transmitter.example.com",
		"aud": "receiver.example.com",
		"iat": 1493856000,
		"sub_id": {"format": "opaque", "id": "f67e39a0a4d34d56b3aa1bc4cff0069f"},
		"events": {"https://schemas.openid.net/secevent/ssf/event-type/stream-updated": {"status": "paused", "reason": "License is not valid"}}
	}`, claimsIn(t, push.body), "/txn")
}

// OpenID CAEP 1.0 sections 3.1 and 3.3: the two events of a password change have the form of the examples.
func TestExamples_events(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	l := s.listen(everything())
	s.want(s.change(s.token("alex", demoPassword), map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusOK, "")
	const common = `"iss": "https://idp.example.com/123456789/", "jti": "24c63fb56e5a2d77a6b512616ca9fa24", "iat": 1615305159,
		"aud": "https://sp.example.com/caep", "txn": "8675309",
		"sub_id": {"format": "iss_sub", "iss": "https://idp.example.com/123456789/", "sub": "jane.smith@example.com"}`
	examples := map[string]string{
		"session-revoked": `{` + common + `, "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {
			"initiating_entity": "policy", "reason_admin": {"*": "Landspeed Policy Violation: C076E82F"},
			"reason_user": {"*": "Access attempt from multiple regions."}, "event_timestamp": 1615304991}}}`,
		"credential-change": `{` + common + `, "events": {"https://schemas.openid.net/secevent/caep/event-type/credential-change": {
			"credential_type": "fido2-roaming", "change_type": "create", "initiating_entity": "user", "reason_admin": {"*": "User self-enrollment"}, "event_timestamp": 1615304991}}}`,
	}
	seen := map[string]bool{}
	for _, got := range l.drain() {
		example, known := examples[got.kind()]
		if !known {
			t.Errorf("a password change is told as %s", got.kind())
			continue
		}
		seen[got.kind()] = true
		event := "/events/https://schemas.openid.net/secevent/caep/event-type/" + got.kind()
		likeExample(t, "CAEP 1.0, "+got.kind(), example, claimsIn(t, got.raw), event+"/reason_user", event+"/generation")
	}
	if len(seen) != len(examples) {
		t.Errorf("only %v were told", seen)
	}
}

// claimsIn returns the claims of a SET as they were written.
func claimsIn(t *testing.T, raw string) []byte {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("no compact SET: %s", raw)
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
