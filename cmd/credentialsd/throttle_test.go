package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salesexec/credentials/internal/config"
	"github.com/salesexec/credentials/internal/throttle"
)

// behindProxy lets a test choose where a request comes from, with X-Forwarded-For.
const behindProxy = "TRUSTED_PROXIES=127.0.0.1/32"

// patient lets nobody give up waiting for a turn on a slow machine, so that counts come out exact.
const patient = "HASH_QUEUE_TIMEOUT=30s"

// signInFrom signs in from an address; "" is this machine.
func (s *service) signInFrom(ip, username, pw string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/sessions", "", map[string]string{"username": username, "password": pw}, "X-Forwarded-For", ip)
}

// retryAfter returns how long the answer asks to wait; it must say so in whole seconds.
func (s *service) retryAfter(a answer) time.Duration {
	s.t.Helper()
	n, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || n < 1 {
		s.t.Fatalf("%d with Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

// guess tries a wrong current password with a new one.
func guess(i int) map[string]string {
	return map[string]string{"new_password": "maple orbit lantern quiet", "current_password": fmt.Sprintf("not the password %d", i)}
}

// standing returns what the database says holds off attempts at the user's password.
func (s *service) standing(id string) throttle.Standing {
	s.t.Helper()
	found, err := s.database().Standings(context.Background(), []string{"user:" + id})
	if err != nil {
		s.t.Fatal(err)
	}
	return found["user:"+id]
}

// THR-06, THR-05: five wrong passwords from one network are looked at; then one at a time, after a growing delay that a right
// one ends. THR-07: neither other users nor other networks feel it.
func TestThrottle_signIn(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		wrong := func() answer { return s.signInFrom("203.0.113.7", "alex", "wrong") }
		for range 4 {
			s.want(wrong(), http.StatusUnauthorized, "invalid_credentials")
		}
		s.want(s.signInFrom("203.0.113.8", "alex", demoPassword), http.StatusCreated, "")
		for range 5 { // not the fifth to the ninth
			s.want(wrong(), http.StatusUnauthorized, "invalid_credentials")
		}
		var before time.Duration
		for range 9 {
			wait := s.retryAfter(s.want(wrong(), http.StatusTooManyRequests, "throttled"))
			if wait > time.Hour || wait <= before && wait != time.Hour {
				t.Errorf("delayed for %s after %s", wait, before)
			}
			s.want(s.signInFrom("203.0.113.99", "Alex", demoPassword), http.StatusTooManyRequests, "throttled") // the network counts, and the right one is not looked at
			before = wait
			s.clock.advance(wait)
			s.want(wrong(), http.StatusUnauthorized, "invalid_credentials")
		}
		if before < 59*time.Minute {
			t.Errorf("the delay grew to %s only", before)
		}
		s.want(s.signInFrom("203.0.113.7", "bo", demoPassword), http.StatusCreated, "")
		s.want(s.signInFrom("198.51.100.7", "alex", demoPassword), http.StatusCreated, "") // alone does not lift it there
		s.want(wrong(), http.StatusTooManyRequests, "throttled")
		s.clock.advance(time.Hour)
		s.want(s.signInFrom("203.0.113.7", "alex", demoPassword), http.StatusCreated, "")
		s.want(wrong(), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signInFrom("203.0.113.7", "alex", demoPassword), http.StatusCreated, "")
	}, behindProxy)
}

// Product decision 8, peers bug 15: a name nobody has, a disabled user and an existing one throttle alike, their answers differ
// in nothing but what differs in every answer, and each costs one verification if it is not delayed, and none if it is.
func TestThrottle_namesAlike(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		names, compared := []string{"alex", "nobody", "dora", "nobody@demo.example"}, 0
		for i := range 12 {
			var first string
			for _, name := range names {
				a := s.signInFrom("203.0.113.7", name, "wrong")
				if a.status == http.StatusUnauthorized {
					compared++
				}
				if got := s.hashes(); got != fmt.Sprintf("verify %d", compared) {
					t.Fatalf("attempt %d as %s: computed %s, want verify %d", i+1, name, got, compared)
				}
				if seen := likeness(t, a); first == "" {
					first = seen
				} else if diff := cmp.Diff(first, seen); diff != "" {
					t.Errorf("attempt %d as %s (-%s +%s):\n%s", i+1, name, names[0], name, diff)
				}
			}
			if i%2 == 1 {
				s.clock.advance(time.Hour)
			}
		}
		s.want(s.signInFrom("198.51.100.7", "dora", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		if got := s.hashes(); got != fmt.Sprintf("verify %d", compared+1) {
			t.Errorf("the right password of a disabled user: computed %s, want verify %d", got, compared+1)
		}
	}, behindProxy)
}

var hashesCounted = regexp.MustCompile(`(?m)^credentials_hash_duration_seconds_count\{operation="(\w+)"\} (\d+)$`)

// hashes tells from the metrics which hashes the service has computed so far, and how many.
func (s *service) hashes() string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.demo.OpsURL+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true} // not s.http: metrics are no part of the contract
	response, err := transport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var found []string
	for _, m := range hashesCounted.FindAllStringSubmatch(string(page), -1) {
		found = append(found, m[1]+" "+m[2])
	}
	return strings.Join(found, ", ")
}

// likeness is what a caller sees of an answer, without what is new in every one.
func likeness(t *testing.T, a answer) string {
	t.Helper()
	header := a.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Content-Length"} {
		header.Del(name)
	}
	for _, name := range []string{"Retry-After", "Ratelimit"} { // counts and seconds, which go on between two requests
		if header.Get(name) != "" {
			header.Set(name, "some")
		}
	}
	delete(a.body, "instance")
	seen, err := json.MarshalIndent(map[string]any{"status": a.status, "header": header, "body": a.body}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(seen)
}

// THR-07: from the 20th failure over several networks, networks unknown to the user are delayed, and those the user has signed
// in from within 30 days are not: a stranger cannot lock anybody out.
func TestThrottle_strangers(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		const home = "198.51.100.7"
		s.want(s.signInFrom(home, "alex", demoPassword), http.StatusCreated, "")
		for i := range 20 {
			s.want(s.signInFrom(fmt.Sprintf("203.0.%d.7", i/4), "alex", "wrong"), http.StatusUnauthorized, "invalid_credentials")
		}
		s.retryAfter(s.want(s.signInFrom("192.0.2.7", "alex", demoPassword), http.StatusTooManyRequests, "throttled"))
		s.want(s.signInFrom("2001:db8::1", "alex", demoPassword), http.StatusTooManyRequests, "throttled")
		s.want(s.signInFrom("192.0.2.7", "bo", demoPassword), http.StatusCreated, "")
		s.want(s.signInFrom("198.51.100.200", "alex", "wrong"), http.StatusUnauthorized, "invalid_credentials") // the network is known
		s.want(s.signInFrom(home, "alex", demoPassword), http.StatusCreated, "")                                // and lifts it
		s.want(s.signInFrom("192.0.2.7", "alex", "wrong"), http.StatusUnauthorized, "invalid_credentials")

		s.clock.advance(30*24*time.Hour + time.Minute)
		for i := range 19 {
			s.want(s.signInFrom(fmt.Sprintf("203.1.%d.7", i/4), "alex", "wrong"), http.StatusUnauthorized, "invalid_credentials")
		}
		s.want(s.signInFrom(home, "alex", demoPassword), http.StatusTooManyRequests, "throttled") // not known any more
	}, behindProxy)
}

// THR-01: at the 100th failure the password is disabled, for the right one too, until a reset. Those who hold a session learn
// why; a reset by an administrator works meanwhile (THR-07) and ends it.
func TestThrottle_passwordDisabled(t *testing.T) {
	oneByOne(t)
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex := s.user("alex")
		live := s.want(s.signInFrom("198.51.100.7", "alex", demoPassword), http.StatusCreated, "")
		for i := range 99 {
			s.want(s.signInFrom(fmt.Sprintf("203.0.%d.7", i), "alex", "wrong"), http.StatusUnauthorized, "invalid_credentials")
			if i >= 19 {
				s.clock.advance(time.Hour)
			}
		}
		renewed := s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": live.text("refresh_token")}), http.StatusOK, "")
		token := renewed.text("access_token")
		s.want(s.change(token, guess(0)), http.StatusForbidden, "wrong_current_password") // the 100th, elsewhere
		if standing := s.standing(alex.ID); standing.Failures != throttle.PasswordLimit {
			t.Errorf("%d failures are stored", standing.Failures)
		}

		for _, ip := range []string{"198.51.100.7", "203.9.9.7"} { // known and unknown
			s.clock.advance(time.Hour)
			s.want(s.signInFrom(ip, "alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		}
		renewed = s.want(s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": renewed.text("refresh_token")}), http.StatusOK, "")
		right := map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}
		s.want(s.change(renewed.text("access_token"), right), http.StatusForbidden, "password_disabled")
		ada := s.token("ada", demoPassword)
		seen := s.want(s.call(http.MethodGet, "/admin/users/"+alex.ID, ada, nil), http.StatusOK, "")
		if state, _ := seen.body["sign_in"].(map[string]any); state["can_sign_in"] != false || state["consecutive_failures"] != float64(100) {
			t.Errorf("the administrator is not told: %s", seen.raw)
		}

		temporary := s.want(s.reset(ada, alex.ID, nil), http.StatusOK, "").text("temporary_password")
		s.want(s.signInFrom("203.0.0.7", "alex", demoPassword), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.signInFrom("203.0.0.7", "alex", temporary), http.StatusCreated, "")
	}, behindProxy)
}

// Product decision 8: in one session the fifth wrong current password brings a delay, and the tenth ends the session. THR-03:
// each is counted although its change was not made.
func TestThrottle_session(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		alex, token, other := s.user("alex"), s.token("alex", demoPassword), s.token("alex", demoPassword)
		for n := 1; n <= throttle.SessionLimit; n++ {
			s.want(s.change(token, guess(n)), http.StatusForbidden, "wrong_current_password")
			if standing := s.standing(alex.ID); standing.Failures != n {
				t.Errorf("%d failures are stored after %d", standing.Failures, n)
			}
			if n >= 5 && n < throttle.SessionLimit {
				s.clock.advance(s.retryAfter(s.want(s.change(token, guess(n)), http.StatusTooManyRequests, "throttled")))
			}
		}
		s.want(s.change(token, guess(0)), http.StatusUnauthorized, "unauthorized")
		s.want(s.call(http.MethodGet, "/users/me", token, nil), http.StatusUnauthorized, "unauthorized")

		// The user's other session is neither ended nor delayed; proving the password there resets what counts towards the 100.
		s.want(s.change(other, map[string]string{"username": "alex", "current_password": "wrong"}), http.StatusForbidden, "wrong_current_password")
		s.want(s.change(other, map[string]string{"username": "alex", "current_password": demoPassword}), http.StatusOK, "")
		if standing := s.standing(alex.ID); standing.Failures != 0 {
			t.Errorf("%d failures are left after a right one", standing.Failures)
		}
	}, "TOKEN_LIFETIME=1h")
}

// THR-02: one counter for sign-in and change, on every replica.
func TestThrottle_sharedByEndpointsAndReplicas(t *testing.T) {
	url := databaseURL(t, "postgres")
	const publicURL = "PUBLIC_URL=https://credentials.example" // one issuer of tokens
	one := start(t, url, patient, publicURL)
	two := start(t, url, patient, publicURL)
	alex, token := one.user("alex"), one.token("alex", demoPassword)
	for i, s := range []*service{one, two} {
		s.want(s.signIn("alex", "wrong"), http.StatusUnauthorized, "invalid_credentials")
		s.want(s.change(token, guess(i)), http.StatusForbidden, "wrong_current_password")
		if standing := s.standing(alex.ID); standing.Failures != 2*i+2 {
			t.Errorf("%d failures are stored, want %d", standing.Failures, 2*i+2)
		}
	}
	statuses, _ := inParallel(t, 60, func(i int) (answer, error) {
		return []*service{one, two}[i%2].trySignIn("alex", "wrong")
	})
	if diff := cmp.Diff(map[int]int{401: 3, 429: 57}, statuses); diff != "" { // two went before
		t.Errorf("sign-ins on two replicas (-want +got):\n%s", diff)
	}
	statuses, _ = inParallel(t, 60, func(i int) (answer, error) {
		return []*service{one, two}[i%2].tryChange(token, guess(i))
	})
	if diff := cmp.Diff(map[int]int{403: 3, 429: 57}, statuses); diff != "" {
		t.Errorf("changes on two replicas (-want +got):\n%s", diff)
	}
	if standing := one.standing(alex.ID); standing.Failures != 10 || standing.BlockedUntil == nil {
		t.Errorf("stored: %+v, want 10 failures and a delay", standing)
	}
}

// trySignIn is signIn for other goroutines.
func (s *service) trySignIn(username, pw string) (answer, error) {
	return s.try(http.MethodPost, "/sessions", "", map[string]string{"username": username, "password": pw})
}

// tryChange is change for other goroutines.
func (s *service) tryChange(token string, body any) (answer, error) {
	return s.try(http.MethodPatch, "/users/me/credentials", token, body)
}

// THR-04, peers bug 8: of 200 wrong sign-ins at once exactly five passwords are compared, for users and for unknown names, and
// the stored counter says so. Right ones at once all get in.
func TestThrottle_parallelSignIns(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		for _, name := range []string{"alex", "nobody"} {
			statuses, answers := inParallel(t, 200, func(int) (answer, error) { return s.trySignIn(name, "wrong") })
			if diff := cmp.Diff(map[int]int{401: 5, 429: 195}, statuses); diff != "" {
				t.Errorf("wrong sign-ins as %s (-want +got):\n%s", name, diff)
			}
			for _, a := range answers {
				if a.status == http.StatusTooManyRequests {
					s.retryAfter(a)
				}
			}
		}
		if standing := s.standing(s.user("alex").ID); standing.Failures != 5 || standing.BlockedUntil == nil {
			t.Errorf("stored: %+v, want 5 failures and a delay", standing)
		}
		s.want(s.signIn("alex", demoPassword), http.StatusTooManyRequests, "throttled")

		statuses, _ := inParallel(t, 50, func(int) (answer, error) { return s.trySignIn("bo", demoPassword) })
		if diff := cmp.Diff(map[int]int{201: 50}, statuses); diff != "" {
			t.Errorf("right sign-ins (-want +got):\n%s", diff)
		}
		if standing := s.standing(s.user("bo").ID); standing.Failures != 0 {
			t.Errorf("%d failures are stored after right ones only", standing.Failures)
		}
	}, patient)
}

// THR-04, peers bug 8 (CVE-2023-47111): of 100 wrong current passwords at once exactly five are compared.
func TestThrottle_parallelCurrentPasswords(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		token := s.token("alex", demoPassword)
		statuses, _ := inParallel(t, 100, func(i int) (answer, error) { return s.tryChange(token, guess(i)) })
		if diff := cmp.Diff(map[int]int{403: 5, 429: 95}, statuses); diff != "" {
			t.Errorf("wrong changes (-want +got):\n%s", diff)
		}
		if standing := s.standing(s.user("alex").ID); standing.Failures != 5 {
			t.Errorf("%d failures are stored, want 5", standing.Failures)
		}
		s.want(s.change(token, map[string]string{"new_password": "maple orbit lantern quiet", "current_password": demoPassword}), http.StatusTooManyRequests, "throttled")
	}, patient)
}

// burst calls until it is refused, which must be after the ten of the minute and soon, and returns the refusal. The allowance
// fills up as time passes, so that a slow machine gets some more.
func (s *service) burst(call func(i int) answer) answer {
	s.t.Helper()
	for i := range 40 {
		a := call(i)
		if a.header.Get("RateLimit") == "" || !strings.HasSuffix(a.header.Get("RateLimit-Policy"), ";q=10;w=60") {
			s.t.Errorf("call %d: RateLimit %q, RateLimit-Policy %q", i+1, a.header.Get("RateLimit"), a.header.Get("RateLimit-Policy"))
		}
		if a.status == http.StatusTooManyRequests {
			if i < 10 {
				s.t.Errorf("refused after %d", i)
			}
			return s.want(a, http.StatusTooManyRequests, "throttled")
		}
	}
	s.t.Fatal("never refused")
	return answer{}
}

// refresh asks for a session with a token that is none: a limited operation that costs little.
func (s *service) refresh(headers ...string) answer {
	s.t.Helper()
	return s.call(http.MethodPost, "/sessions/refresh", "", map[string]string{"refresh_token": "none"}, headers...)
}

// THR-08: a wider limit on all credential operations, for each address and for each subject; others are not affected.
func TestThrottle_rate(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *service) {
		from := func(ip string) []string { return []string{"X-Forwarded-For", ip} }
		refused := s.burst(func(int) answer { return s.refresh(from("203.0.113.7")...) })
		s.want(s.signInFrom("203.0.113.7", "bo", demoPassword), http.StatusTooManyRequests, "throttled") // every limited operation
		s.want(s.call(http.MethodGet, "/password-policy", "", nil, from("203.0.113.7")...), http.StatusOK, "")
		s.want(s.refresh(from("203.0.113.8")...), http.StatusUnauthorized, "")
		s.clock.advance(s.retryAfter(refused))
		s.want(s.refresh(from("203.0.113.7")...), http.StatusUnauthorized, "")

		token := func(name string) string {
			return s.want(s.signInFrom("192.0.2.1", name, demoPassword), http.StatusCreated, "").text("access_token")
		}
		alex, bo, ada := token("alex"), token("bo"), token("ada")
		change := func(token, ip string) answer { return s.change(token, map[string]string{}, from(ip)...) }
		refused = s.burst(func(i int) answer { return change(alex, fmt.Sprintf("198.51.%d.7", i)) })
		s.want(change(bo, "198.51.0.7"), http.StatusUnprocessableEntity, "validation_failed")
		s.want(s.reset(ada, s.user("alex").ID, nil, from("198.51.0.8")...), http.StatusOK, "") // alex is limited, not what is done to alex
		s.clock.advance(s.retryAfter(refused))
		s.want(s.call(http.MethodGet, "/users/me", bo, nil), http.StatusOK, "")
	}, behindProxy, "RATE_LIMIT_PER_MINUTE=10")
}

// THR-09: nobody chooses the address that is counted: without a trusted proxy no header is believed, behind one only what the
// proxy itself has added.
func TestThrottle_addressIsNotForged(t *testing.T) {
	oneByOne(t)
	forged := func(i int) string { return fmt.Sprintf("203.0.%d.7", i) }
	for name, test := range map[string]struct {
		env     []string
		headers func(i int) []string
	}{
		"no proxy": {nil, func(i int) []string {
			return []string{"X-Forwarded-For", forged(i), "X-Real-IP", forged(i), "Forwarded", "for=" + forged(i), "True-Client-IP", forged(i)}
		}},
		"behind a proxy": {[]string{behindProxy}, func(i int) []string {
			return []string{"X-Forwarded-For", forged(i) + ", 198.51.100.7", "X-Real-IP", forged(i), "Forwarded", "for=" + forged(i)}
		}},
		"a proxy elsewhere": {[]string{"TRUSTED_PROXIES=10.0.0.0/8"}, func(i int) []string {
			return []string{"X-Forwarded-For", forged(i) + ", 10.0.0.1"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, databaseURL(t, "sqlite"), append(test.env, "RATE_LIMIT_PER_MINUTE=10")...)
			s.burst(func(i int) answer { return s.refresh(test.headers(i)...) })
		})
		t.Run(name+", failures", func(t *testing.T) {
			s := start(t, databaseURL(t, "sqlite"), test.env...)
			try := func(i int) answer {
				return s.call(http.MethodPost, "/sessions", "", map[string]string{"username": "alex", "password": "wrong"}, test.headers(i)...)
			}
			for i := range 5 {
				s.want(try(i), http.StatusUnauthorized, "invalid_credentials")
			}
			s.want(try(5), http.StatusTooManyRequests, "throttled")
		})
	}
}

// THR-11: the limits that callers are told of are those in force.
func TestThrottle_documented(t *testing.T) {
	settings, err := config.LoadDatabase(func(name string) string { return map[string]string{"DATABASE_URL": "sqlite:x"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, databaseURL(t, "sqlite"))
	contract := strings.Join(strings.Fields(string(s.want(s.call(http.MethodGet, "/openapi.yaml", "", nil), http.StatusOK, "").raw)), " ")
	for _, told := range []string{
		"from the fifth in a row on, the answer is `429` with `Retry-After` in seconds", // TestThrottle_signIn
		fmt.Sprintf("%d a minute by default", settings.RateLimit),
	} {
		if !strings.Contains(contract, told) {
			t.Errorf("the API description does not say %q", told)
		}
	}
	for _, v := range config.Variables() {
		if v.Name == "RATE_LIMIT_PER_MINUTE" && v.Default != strconv.Itoa(settings.RateLimit) {
			t.Errorf("RATE_LIMIT_PER_MINUTE is documented as %s and is %d", v.Default, settings.RateLimit)
		}
	}
}
