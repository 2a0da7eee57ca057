package main

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// basic is an Authorization header as RFC 6749 section 2.3.1 asks for it.
func basic(id, proof string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(proof)))
}

// oauth asks for a token with a form; without an id there is no Authorization header.
func (s *service) oauth(form, id, proof string, headers ...string) answer {
	s.t.Helper()
	headers = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)
	if id != "" {
		headers = append(headers, "Authorization", basic(id, proof))
	}
	return s.call(http.MethodPost, "/oauth/token", "", form, headers...)
}

// inSeconds tells whether value is a number of seconds up to d, which counts from the second the token was made in.
func inSeconds(value any, d time.Duration) bool {
	n, ok := value.(float64)
	return ok && n > 0 && n <= d.Seconds()
}

// wantRefusal checks an error answer of RFC 6749 section 5.2.
func wantRefusal(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.text("error") != code {
		t.Fatalf("got %d %q, want %d %q\n%s", a.status, a.text("error"), status, code, a.raw)
	}
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" || a.body["access_token"] != nil {
		t.Errorf("%v %s", a.header, a.raw)
	}
	challenge := a.header.Get("WWW-Authenticate")
	if (status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Basic realm=") {
		t.Errorf("WWW-Authenticate %q", challenge)
	}
	for _, r := range a.text("error_description") { // section 5.2 allows no others
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			t.Errorf("error_description holds %q", r)
		}
	}
}

// RFC 6749 sections 2.3.1, 4.4 and 5.1.
func TestOAuth_token(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		client := s.demo.Clients[0]
		inBody := "&client_id=" + client.ClientID + "&client_secret=" + url.QueryEscape(client.ClientSecret)
		all := strings.Join(client.Scopes, " ")
		for name, test := range map[string]struct {
			form    string
			id      string
			headers []string
			scope   string
		}{
			"Basic":                     {"grant_type=client_credentials", client.ClientID, nil, all},
			"body":                      {"grant_type=client_credentials" + inBody, "", nil, all},
			"one scope":                 {"grant_type=client_credentials&scope=users:read", client.ClientID, nil, "users:read"},
			"two scopes":                {"grant_type=client_credentials&scope=users%3Aread+credentials%3Areset", client.ClientID, nil, "users:read credentials:reset"},
			"empty scope is none (3.2)": {"grant_type=client_credentials&scope=", client.ClientID, nil, all},
			"scope twice in the list":   {"grant_type=client_credentials&scope=users%3Aread+users%3Aread", client.ClientID, nil, "users:read"},
			"client_id beside Basic":    {"grant_type=client_credentials&client_id=" + client.ClientID, client.ClientID, nil, all},
			"unknown parameter (3.2)":   {"grant_type=client_credentials&resource=x", client.ClientID, nil, all},
			"charset":                   {"grant_type=client_credentials", client.ClientID, []string{"Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"}, all},
		} {
			t.Run(name, func(t *testing.T) {
				a := s.want(s.oauth(test.form, test.id, client.ClientSecret, test.headers...), http.StatusOK, "")
				if a.text("token_type") != "Bearer" || !inSeconds(a.body["expires_in"], 15*time.Minute) || a.text("scope") != test.scope || a.body["refresh_token"] != nil {
					t.Errorf("%s", a.raw)
				}
				if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" || a.header.Get("Content-Type") != "application/json" {
					t.Errorf("%v", a.header)
				}
				s.want(s.call(http.MethodGet, "/admin/users", a.text("access_token"), nil), http.StatusOK, "")
			})
		}
	})
}

// RFC 6749 sections 2.3, 3.2 and 5.2.
func TestOAuth_refusals(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const grant = "grant_type=client_credentials"
		id, proof := s.demo.Clients[0].ClientID, s.demo.Clients[0].ClientSecret
		for _, test := range []struct {
			name, form, id, proof string
			status                int
			code                  string
		}{
			{"proven in two ways", grant + "&client_id=" + id + "&client_secret=" + proof, id, proof, 400, "invalid_request"},
			{"no grant", "scope=users:read", id, proof, 400, "invalid_request"},
			{"empty body", "", id, proof, 400, "invalid_request"},
			{"parameter twice", grant + "&" + grant, id, proof, 400, "invalid_request"},
			{"scope twice", grant + "&scope=users:read&scope=users:write", id, proof, 400, "invalid_request"},
			{"secret twice", grant + "&client_id=" + id + "&client_secret=" + proof + "&client_secret=" + proof, "", "", 400, "invalid_request"},
			{"no form", grant + "&scope=%zz", id, proof, 400, "invalid_request"},
			{"JSON in a form", `{"grant_type":"client_credentials"}`, id, proof, 400, "invalid_request"},
			{"unknown grant", "grant_type=urn:x", id, proof, 400, "unsupported_grant_type"},
			{"password grant", "grant_type=password&username=alex&password=x", id, proof, 400, "unsupported_grant_type"},
			{"case of the grant", "grant_type=Client_Credentials", id, proof, 400, "unsupported_grant_type"},
			{"scope that nobody has", grant + "&scope=users:read+root", id, proof, 400, "invalid_scope"},
			{"blank scope", grant + "&scope=+", id, proof, 400, "invalid_scope"},
			{"scope by case", grant + "&scope=USERS:READ", id, proof, 400, "invalid_scope"},
			{"scope with odd bytes", grant + "&scope=%ff%00", id, proof, 400, "invalid_scope"},
			{"wrong secret", grant, id, "wrong", 401, "invalid_client"},
			{"no secret", grant, id, "", 401, "invalid_client"},
			{"nothing proven", grant, "", "", 401, "invalid_client"},
			{"unknown client", grant, "unknown", proof, 401, "invalid_client"},
			{"wrong secret in the body", grant + "&client_id=" + id + "&client_secret=wrong", "", "", 401, "invalid_client"},
			{"NUL in the id", grant, "demo\x00service", proof, 401, "invalid_client"},
			{"broken UTF-8 in the id", grant, "demo\xffservice", proof, 401, "invalid_client"},
			{"two clients", grant + "&client_id=other", id, proof, 400, "invalid_request"},
			{"a user as a client", grant, "alex", demoPassword, 401, "invalid_client"},
		} {
			t.Run(test.name, func(t *testing.T) {
				wantRefusal(t, s.oauth(test.form, test.id, test.proof), test.status, test.code)
			})
		}
	})
}

// RFC 6749 section 2.3: one way of proving, and a header is one whatever it holds.
func TestOAuth_headers(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	client := s.demo.Clients[0]
	proven := "grant_type=client_credentials&client_id=" + client.ClientID + "&client_secret=" + client.ClientSecret
	for header, want := range map[string]struct {
		status int
		code   string
	}{
		"Bearer x": {400, "invalid_request"}, "Basic ?": {400, "invalid_request"}, "Basic": {400, "invalid_request"},
	} {
		wantRefusal(t, s.oauth(proven, "", "", "Authorization", header), want.status, want.code)
		wantRefusal(t, s.oauth("grant_type=client_credentials", "", "", "Authorization", header), http.StatusUnauthorized, "invalid_client")
	}
	head, _ := s.exchange("POST /oauth/token HTTP/1.1\r\nHost: x\r\nAuthorization: " + basic(client.ClientID, client.ClientSecret) + "\r\nAuthorization: Basic eDp5" +
		"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\nConnection: close\r\n\r\ngrant_type=client_credentials")
	if !strings.HasPrefix(head, "HTTP/1.1 400 ") {
		t.Errorf("two headers: %s", head)
	}
}

// RFC 6749 section 2.3.1: never in the URL, where logs keep it; section 3.2: a parameter in the URL is none.
func TestOAuth_urlIsNotRead(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	client := s.demo.Clients[0]
	post := func(query, form, id string) answer {
		headers := []string{"Content-Type", "application/x-www-form-urlencoded"}
		if id != "" {
			headers = append(headers, "Authorization", basic(id, client.ClientSecret))
		}
		return s.call(http.MethodPost, "/oauth/token?"+query, "", form, headers...)
	}
	wantRefusal(t, post("grant_type=client_credentials", "scope=users:read", client.ClientID), http.StatusBadRequest, "invalid_request")
	wantRefusal(t, post("client_id="+client.ClientID+"&client_secret="+client.ClientSecret, "grant_type=client_credentials", ""), http.StatusUnauthorized, "invalid_client")
	narrow := s.want(post("scope=credentials:reset&grant_type=password", "grant_type=client_credentials&scope=users:read", client.ClientID), http.StatusOK, "")
	if narrow.text("scope") != "users:read" {
		t.Errorf("the URL's scope was read: %s", narrow.raw)
	}
	s.want(post("%zz", "grant_type=client_credentials", client.ClientID), http.StatusOK, "")
	if strings.Contains(s.log.String(), client.ClientSecret) {
		t.Error("a secret from the URL is in the log") // LOG-04
	}
}

// COR-08, AZ-13: the endpoint takes forms of 16 KiB and nothing else; what it does not even read is a problem document.
func TestOAuth_onlyForms(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	client := s.demo.Clients[0]
	for _, headers := range [][]string{{"Content-Type", "application/json"}, {"Content-Type", "text/plain"}, {"Content-Type", ""},
		{"Content-Type", "application/x-www-form-urlencoded; charset=utf-16"}, {"Content-Encoding", "gzip"}} {
		a := s.want(s.oauth(`{"grant_type":"client_credentials"}`, client.ClientID, client.ClientSecret, headers...), http.StatusUnsupportedMediaType, "unsupported_media_type")
		if headers[0] == "Content-Type" && a.header.Get("Accept") != "application/x-www-form-urlencoded" {
			t.Errorf("%v: Accept %q", headers, a.header.Get("Accept"))
		}
	}
	const form = "grant_type=client_credentials&x="
	filled := func(length int) string { return form + strings.Repeat("a", length-len(form)) }
	s.want(s.oauth(filled(16<<10), client.ClientID, client.ClientSecret), http.StatusOK, "")
	s.want(s.oauth(filled(16<<10+1), client.ClientID, client.ClientSecret), http.StatusRequestEntityTooLarge, "body_too_large")
}

// RFC 6749 sections 4.4.2, 4.4.3, 5.1 and 5.2, byte by byte as in their examples: the request with its line ends, the fields
// of the answer and the members of its body.
func TestOAuth_wire(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	client := s.demo.Clients[0]
	fields := regexp.MustCompile(`(?mi)^(Content-Type|Cache-Control|Pragma|WWW-Authenticate): .*$`)
	for name, test := range map[string]struct {
		proof, form, status string
		fields              []string
		body                string // a pattern
	}{
		"4.4.2 and 4.4.3": {client.ClientSecret, "grant_type=client_credentials", "HTTP/1.1 200 OK", []string{"Cache-Control: no-store", "Content-Type: application/json", "Pragma: no-cache"},
			`\{"access_token":"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+","expires_in":(899|900),"scope":"[a-z:. ]+","token_type":"Bearer"\}`},
		"5.2 400": {client.ClientSecret, "grant_type=client_credentials&scope=root", "HTTP/1.1 400 Bad Request", []string{"Cache-Control: no-store", "Content-Type: application/json", "Pragma: no-cache"},
			`\{"error":"invalid_scope","error_description":"[ -!#-[\]-~]+"\}`},
		"5.2 401": {"wrong", "grant_type=client_credentials", "HTTP/1.1 401 Unauthorized", []string{"Cache-Control: no-store", "Content-Type: application/json", "Pragma: no-cache", `Www-Authenticate: Basic realm="salesexec"`},
			`\{"error":"invalid_client","error_description":"[ -!#-[\]-~]+"\}`},
	} {
		t.Run(name, func(t *testing.T) {
			head, body := s.exchange("POST /oauth/token HTTP/1.1\r\nHost: server.example.com\r\nAuthorization: " + basic(client.ClientID, test.proof) +
				"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(test.form)) + "\r\nConnection: close\r\n\r\n" + test.form)
			got := fields.FindAllString(head, -1)
			slices.Sort(got)
			if !strings.HasPrefix(head, test.status+"\n") || !slices.Equal(got, test.fields) {
				t.Errorf("got\n%s", head)
			}
			if !regexp.MustCompile("^" + test.body + "\n?$").MatchString(body) {
				t.Errorf("got %s", body)
			}
		})
	}
}

// exchange sends bytes and returns the head, with plain line ends, and the body of the answer.
func (s *service) exchange(request string) (head, body string) {
	s.t.Helper()
	connection, err := (&net.Dialer{Timeout: time.Minute}).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.demo.URL, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if _, err := io.WriteString(connection, request); err != nil {
		s.t.Fatal(err)
	}
	all, err := io.ReadAll(connection)
	if err != nil {
		s.t.Fatal(err)
	}
	head, body, _ = strings.Cut(string(all), "\r\n\r\n")
	return strings.ReplaceAll(head, "\r\n", "\n"), body
}
