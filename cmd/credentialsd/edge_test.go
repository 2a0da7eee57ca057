package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Issue "every refusal of a change is an audit event", LOG-01: also one that the role or the scope does not allow.
func TestDenied_isAudited(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token, bo := s.token("alex", demoPassword), s.user("bo").ID
		s.want(s.reset(token, bo, nil), http.StatusForbidden, "forbidden")
		events, err := s.database().AuditEvents(context.Background(), "demo", time.Time{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		last := events[len(events)-1]
		if last.Details.Code != "forbidden" || last.Actor.Username != "alex" || last.Target.ID != bo {
			t.Errorf("got %+v", last)
		}
	})
}

// A caller that closes only its own half of the connection gets an answer that says what became of the request.
func TestHalfClosed_getsAnAnswer(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.demo.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	body := fmt.Sprintf(`{"username":"alex","password":%q}`, demoPassword)
	_, err = fmt.Fprintf(connection, "POST /sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if err == nil {
		err = connection.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil || (response.StatusCode != http.StatusCreated && response.StatusCode != http.StatusServiceUnavailable) || len(content) == 0 {
		t.Errorf("%d %q %v", response.StatusCode, content, err)
	}
}

// USR-11, decision 11: a form that sends the unchanged username with a new password works, whatever the name is.
func TestUnchangedUsername_isNoChange(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		ada, bo := s.token("ada", demoPassword), s.user("bo").ID
		s.want(s.call(http.MethodPatch, "/admin/users/"+bo+"/credentials", ada, map[string]string{"username": "bo@corp.example"}), http.StatusOK, "")
		s.want(s.change(s.token("bo@corp.example", demoPassword), map[string]string{
			"username": "bo@corp.example", "new_password": "maple orbit lantern quiet", "current_password": demoPassword,
		}), http.StatusOK, "")
		// A username that is the e-mail cannot lose the address under it: the user would have no name.
		alex := "/admin/users/" + s.user("alex").ID + "/credentials"
		s.want(s.call(http.MethodPatch, alex, ada, map[string]string{"username": s.user("alex").Email}), http.StatusOK, "")
		s.want(s.call(http.MethodPatch, alex, ada, map[string]string{"email": ""}), http.StatusUnprocessableEntity, "policy_violation")
		s.want(s.call(http.MethodPatch, alex, ada, map[string]string{"email": "", "username": "alex"}), http.StatusOK, "")
	})
}

// Two databases, one behaviour: text that one of them cannot hold, and case in teams.
func TestDatabases_agree(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		s.want(s.call(http.MethodPost, "/sessions/refresh", "", `{"refresh_token":"a\u0000b.1.x"}`), http.StatusUnauthorized, "unauthorized")
		ada := s.token("ada", demoPassword)
		s.want(s.call(http.MethodGet, "/admin/users?team=/%ff/", ada, nil), http.StatusUnprocessableEntity, "validation_failed")
		if list := s.want(s.call(http.MethodGet, "/admin/users?team=/EAST/", ada, nil), http.StatusOK, ""); len(list.body["items"].([]any)) != 0 {
			t.Errorf("case was ignored: %s", list.raw)
		}
	})
}

// A delay in one session keeps nobody from signing in, and "why can't this user sign in?" does not say so.
func TestSignInState_leavesSessionDelaysOut(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("wanda", demoPassword)
		for range 5 {
			s.want(s.change(token, map[string]string{"username": "wanda2", "current_password": "wrong wrong wrong wrong"}), http.StatusForbidden, "wrong_current_password")
		}
		shown := s.want(s.call(http.MethodGet, "/admin/users/"+s.user("wanda").ID, s.token("ada", demoPassword), nil), http.StatusOK, "")
		if state := shown.body["sign_in"].(map[string]any); state["can_sign_in"] != true {
			t.Errorf("got %v", state)
		}
		s.token("wanda", demoPassword)
	})
}
