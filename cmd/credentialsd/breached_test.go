package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the filters of these tests list. The last one is typed decomposed in a test.
const (
	listedPassword   = "violet anchor tuesday lamp"
	listedAsComposed = "violet änchor tuesday lamp"
)

// PW-15, ASVS 6.2.12: a password that is known from a breach is refused wherever one is chosen, with guidance and beside all
// that is wrong with it; one that is not is taken. The published policy says so.
func TestBreachedPasswords(t *testing.T) {
	onEachDatabase(t, testBreachedPasswords, "BREACHED_PASSWORDS_FILTER="+breachedFilter(t, listedPassword, listedAsComposed, "violet"))
}

func testBreachedPasswords(t *testing.T, s *service) {
	policy := s.want(s.call(http.MethodGet, "/password-policy", "", nil), http.StatusOK, "")
	if policy.body["breached_passwords"] != true {
		t.Errorf("published: %s", policy.raw)
	}
	u := peopleOf(s).add("breached")
	u.refuses(listedPassword, "breached")
	u.refuses(listedAsComposed, "breached")
	u.refuses(strings.ReplaceAll(listedAsComposed, "ä", "a\u0308"), "breached") // PW-10
	u.refuses("violet", "too_short", "breached")                                // PW-18
	renamed := s.want(s.change(u.token, map[string]string{"username": "breached.too", "new_password": listedPassword, "current_password": u.pw}), http.StatusUnprocessableEntity, "policy_violation")
	if detail := string(renamed.raw); !strings.Contains(detail, "known from breaches") || strings.Contains(detail, listedPassword) {
		t.Errorf("guidance: %s", detail)
	}
	s.wantMetric("credentials_password_refusals_total{code=\"breached\"} 5")
	s.wantMetric("credentials_password_refusals_total{code=\"too_short\"} 1")
	if row := u.row(u.id); row.Version != 1 || row.Username != "breached" {
		t.Errorf("it has changed: %+v", row)
	}
	u.accepts("Violet anchor tuesday lamp") // another password: the list is of passwords as they were used

	ada, bo := s.token("ada", demoPassword), s.user("bo").ID
	reset := s.want(s.reset(ada, bo, map[string]string{"method": "set", "new_password": listedPassword}), http.StatusUnprocessableEntity, "policy_violation")
	if want := []string{"/new_password breached"}; !slices.Equal(reset.fieldCodes(), want) {
		t.Errorf("%v, want %v", reset.fieldCodes(), want)
	}
	service := s.serviceToken("credentials:reset")
	s.want(s.reset(service, bo, map[string]string{"method": "set", "new_password": listedPassword}), http.StatusUnprocessableEntity, "policy_violation")
	redeemed := s.want(s.redeem(s.sendLink("wanda", nil), listedPassword), http.StatusUnprocessableEntity, "policy_violation")
	if want := []string{"/new_password breached"}; !slices.Equal(redeemed.fieldCodes(), want) {
		t.Errorf("%v, want %v", redeemed.fieldCodes(), want)
	}
	s.wantMetric("credentials_password_refusals_total{code=\"breached\"} 8")
	s.want(s.signIn("bo", demoPassword), http.StatusCreated, "")
	s.want(s.reset(ada, bo, map[string]string{"method": "set", "new_password": "violet anchor tuesday lamps"}), http.StatusOK, "")

	s.wantMetric("credentials_breached_passwords_entries 3")
	s.wantMetric(fmt.Sprintf("credentials_breached_passwords_source_timestamp_seconds %g", float64(today().Unix())))
	s.wantMetric("credentials_breached_passwords_sound 1")
	s.wantProbe("/readyz", http.StatusOK)
	if log := s.log.String(); !strings.Contains(log, `"entries":3,"source_date":"2026-02-03","min_count":1,"checked":true`) || strings.Contains(log, "violet") {
		t.Errorf("the log must tell of the filter and of no password:\n%s", log)
	}
}

// wantMetric fails the test unless the metrics have the line.
func (s *service) wantMetric(line string) {
	s.t.Helper()
	_, _, metrics := s.ops("/metrics")
	if !strings.Contains("\n"+metrics, "\n"+line+"\n") {
		name, _, _ := strings.Cut(line, " ")
		s.t.Errorf("the metrics lack %q, near %q", line, filterLines(metrics, strings.Split(name, "{")[0]))
	}
}

func filterLines(text, part string) (found []string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// PW-15: without a filter the service runs, and neither claims nor does it.
func TestBreachedPasswords_withoutAFilter(t *testing.T) {
	s := start(t, databaseURL(t, "sqlite"))
	policy := s.want(s.call(http.MethodGet, "/password-policy", "", nil), http.StatusOK, "")
	if policy.body["breached_passwords"] != false {
		t.Errorf("published: %s", policy.raw)
	}
	peopleOf(s).add("breached").accepts(listedPassword)
	if !strings.Contains(s.log.String(), "BREACHED_PASSWORDS_FILTER is not set") {
		t.Error("the log does not say that nothing is checked")
	}
}

// PW-15: serve consults the filter as dev does.
func TestBreachedPasswords_serve(t *testing.T) {
	variables := serving(emptyDatabase(t, "sqlite"))
	variables["BREACHED_PASSWORDS_FILTER"] = breachedFilter(t, listedPassword)
	wants{args: "migrate up", env: variables}.check(t)
	out := wants{args: "user create --account acme --username ada", env: variables}.check(t)
	_, rest, _ := strings.Cut(out, "temporary password: ")
	temporary := strings.Fields(rest)[0]
	s := startServe(t, variables)
	token := s.token("ada", temporary)
	refused := s.want(s.change(token, map[string]string{"new_password": listedPassword, "current_password": temporary}), http.StatusUnprocessableEntity, "policy_violation")
	if want := []string{"/new_password breached"}; !slices.Equal(refused.fieldCodes(), want) {
		t.Errorf("%v, want %v", refused.fieldCodes(), want)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.log)
	}
}

// damaged is a filter with one byte of its content changed: only reading all of it shows that.
func damaged(t *testing.T) string {
	t.Helper()
	path := breachedFilter(t, listedPassword)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file[len(file)-40]++
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// PW-15: neither serve nor dev starts with a filter that is damaged anywhere, and both say which file it is.
func TestBreachedPasswords_damagedFilter(t *testing.T) {
	folder := t.TempDir()
	whole, err := os.ReadFile(breachedFilter(t, listedPassword))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"content": damaged(t), "missing": filepath.Join(folder, "none"), "folder": folder}
	for name, file := range map[string][]byte{
		"empty": {}, "cut short": whole[:len(whole)-1], "header": bytes.Replace(whole, []byte("SX"), []byte("XS"), 1), "index": append(bytes.Clone(whole[:len(whole)-1]), 'x'),
		"a list": []byte(breachedList(listedPassword)),
	} {
		files[name] = filepath.Join(folder, name)
		if err := os.WriteFile(files[name], file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	served := serving(emptyDatabase(t, "sqlite"))
	wants{args: "migrate up", env: served}.check(t)
	for name, path := range files {
		t.Run(name, func(t *testing.T) {
			env := fastHashing()
			env["BREACHED_PASSWORDS_FILTER"], served["BREACHED_PASSWORDS_FILTER"] = path, path
			wants{args: "serve", env: served, code: 1, err: []string{"credentialsd: BREACHED_PASSWORDS_FILTER: ", path}}.check(t)
			wants{args: "dev --addr 127.0.0.1:0 --ops-addr 127.0.0.1:0 --data " + t.TempDir(), env: env, code: 1, err: []string{"credentialsd: BREACHED_PASSWORDS_FILTER: ", path}}.check(t)
		})
	}
}

// PW-15: a filter too large to be checked before the start is checked while the service runs. Damage turns readiness off and
// is logged; a sound one is logged as checked.
func TestBreachedPasswords_largeFilter(t *testing.T) {
	const checked, found = "the filter of breached passwords is checked and sound", "the filter of breached passwords is damaged"
	all := process{checkedAtStart: 1}
	t.Run("sound", func(t *testing.T) {
		s := startAs(t, databaseURL(t, "sqlite"), all, "BREACHED_PASSWORDS_FILTER="+breachedFilter(t, listedPassword))
		s.wantLog(checked)
		s.wantProbe("/readyz", http.StatusOK)
		s.wantMetric("credentials_breached_passwords_sound 1")
		if !strings.Contains(s.log.String(), `"checked":false`) || strings.Contains(s.log.String(), found) {
			t.Error(s.log)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		path := damaged(t)
		s := startAs(t, databaseURL(t, "sqlite"), all, "BREACHED_PASSWORDS_FILTER="+path)
		s.wantLog(found)
		s.wantProbe("/readyz", http.StatusServiceUnavailable)
		s.wantProbe("/livez", http.StatusOK)
		s.wantMetric("credentials_breached_passwords_sound 0")
		if log := s.log.String(); !strings.Contains(log, "checksum of the content is wrong") || strings.Contains(log, checked) || strings.Count(log, found) != 1 {
			t.Error(log)
		}
		s.want(s.signIn("alex", demoPassword), http.StatusCreated, "") // what reaches it all the same is answered
	})
}

// wantLog waits until the log has the text.
func (s *service) wantLog(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.log.String(), text); {
		if time.Now().After(deadline) {
			s.t.Fatalf("the log lacks %q:\n%s", text, s.log)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// PW-15: a filter that is cut short under the running service, which nobody should do, costs readiness and no request.
func TestBreachedPasswords_filterCutShort(t *testing.T) {
	path := breachedFilter(t, listedPassword)
	s := start(t, databaseURL(t, "sqlite"), "BREACHED_PASSWORDS_FILTER="+path)
	u := peopleOf(s).add("breached")
	u.refuses(listedPassword, "breached")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	u.accepts("maple orbit lantern quiet")
	u.refuses("password1234567", "blocklisted") // the built-in list is still there
	s.wantProbe("/readyz", http.StatusServiceUnavailable)
	s.wantLog("a part of it is gone")
}
