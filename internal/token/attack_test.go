package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/salesexec/credentials/internal/token"
)

// The forgeries below differ from this token in one thing each.
func TestVerify_acceptsTheTokenThatForgeriesStartFrom(t *testing.T) {
	b := newBench(t)
	b.accepted(t, forge(goodHeader(b.key.ID), goodPayload(), with(b.key)))
}

func TestVerify_refusesAlgorithms(t *testing.T) {
	b := newBench(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := b.key.Private.Public().(ed25519.PublicKey)
	unsigned := func(string) []byte { return nil }
	hs256 := func(text string) []byte {
		mac := hmac.New(sha256.New, public)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	rs256 := func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	for name, attack := range map[string]struct {
		alg  any
		sign signer
		why  string
	}{
		"JWT-01 none":                         {"none", unsigned, "not in compact form"},
		"JWT-01 None":                         {"None", unsigned, "not in compact form"},
		"JWT-01 nOnE":                         {"nOnE", unsigned, "not in compact form"},
		"JWT-01 none with a signature":        {"none", with(b.key), "wrong algorithm or signature"},
		"JWT-01 nOnE with a signature":        {"nOnE", with(b.key), "unknown algorithm"},
		"JWT-01 HS256 with the public key":    {"HS256", hs256, "wrong algorithm or signature"},
		"JWT-01 EdDSA with an HMAC":           {"EdDSA", hs256, "wrong algorithm or signature"},
		"JWT-01 RS256":                        {"RS256", rs256, "wrong algorithm or signature"},
		"JWT-11 RS256 with an Ed25519 key":    {"RS256", with(b.key), "wrong algorithm or signature"},
		"JWT-01 eddsa in another case":        {"eddsa", with(b.key), "unknown algorithm"},
		"JWT-01 no algorithm":                 {absent{}, with(b.key), "unknown algorithm"},
		"JWT-01 the algorithm is not a text":  {[]string{"EdDSA"}, with(b.key), "unknown algorithm"},
		"JWT-01 the signature is all zeroes":  {"EdDSA", func(string) []byte { return make([]byte, 64) }, "wrong algorithm or signature"},
		"JWT-01 the signature is a byte long": {"EdDSA", func(string) []byte { return []byte{1} }, "wrong algorithm or signature"},
	} {
		t.Run(name, func(t *testing.T) {
			header := goodHeader(b.key.ID).with(members{"alg": attack.alg})
			b.refusedFor(t, forge(header, goodPayload(), attack.sign), attack.why)
		})
	}
}

func TestVerify_checksTheType(t *testing.T) {
	b := newBench(t)
	for _, kind := range []string{"at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"} {
		t.Run("JWT-05 accepts "+kind, func(t *testing.T) {
			b.accepted(t, forge(goodHeader(b.key.ID).with(members{"typ": kind}), goodPayload(), with(b.key)))
		})
	}
	for name, kind := range map[string]any{
		"JWT-05 JWT": "JWT", "JWT-05 absent": absent{}, "JWT-05 empty": "", "JWT-05 null": nil,
		"JWT-05 security event token": "secevent+jwt", "JWT-05 its media type": "application/secevent+jwt",
		"JWT-05 logout token": "logout+jwt", "JWT-05 a list": []string{"at+jwt"}, "JWT-05 padded": " at+jwt",
		"JWT-06 proof of possession": "dpop+jwt",
	} {
		t.Run(name, func(t *testing.T) {
			raw := forge(goodHeader(b.key.ID).with(members{"typ": kind}), goodPayload(), with(b.key))
			b.refusedFor(t, raw, "not of type at+jwt")
		})
	}
}

func TestVerify_checksTheClaims(t *testing.T) {
	b := newBench(t)
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	for name, attack := range map[string]struct {
		changes members
		why     string
	}{
		"JWT-02 no exp":                    {members{"exp": absent{}}, "no exp"},
		"JWT-02 null exp":                  {members{"exp": nil}, "no exp"},
		"JWT-02 expired":                   {members{"iat": at(-lifetime), "exp": at(-leeway)}, "expired"},
		"JWT-02 far-future exp":            {members{"exp": at(10 * 365 * 24 * time.Hour)}, "made for too long a time"},
		"JWT-02 exp at the end of int64":   {members{"exp": int64(1<<63 - 1)}, "expired"},
		"JWT-02 exp beyond int64":          {members{"exp": json.Number("1e30")}, "malformed"},
		"JWT-03 wrong iss":                 {members{"iss": "https://evil.example"}, "another issuer"},
		"JWT-03 iss with a slash more":     {members{"iss": issuer + "/"}, "another issuer"},
		"JWT-03 no iss":                    {members{"iss": absent{}}, "no iss"},
		"JWT-04 no aud":                    {members{"aud": absent{}}, "no aud"},
		"JWT-04 null aud":                  {members{"aud": nil}, "no aud"},
		"JWT-04 other aud":                 {members{"aud": "another"}, "another audience"},
		"JWT-04 other auds":                {members{"aud": []string{"another", audience + "2"}}, "another audience"},
		"JWT-04 empty aud":                 {members{"aud": []string{}}, "no aud"},
		"JWT-04 aud of nothing":            {members{"aud": []string{""}}, "no aud"},
		"JWT-06 ID token: aud is a client": {members{"aud": "app", "nonce": "n"}, "another audience"},
		"JWT-07 nbf in the future":         {members{"nbf": at(leeway + time.Second)}, "not valid yet"},
		"JWT-07 iat in the future":         {members{"iat": at(leeway + time.Second)}, "issued in the future"},
		"JWT-13 no iat":                    {members{"iat": absent{}}, "no iat"},
		"JWT-13 no sub":                    {members{"sub": absent{}}, "no sub"},
		"JWT-13 empty sub":                 {members{"sub": ""}, "no sub"},
		"JWT-13 no client_id":              {members{"client_id": absent{}}, "no client_id"},
		"JWT-13 no jti":                    {members{"jti": absent{}}, "no jti"},
		"JWT-13 no account_id":             {members{"account_id": absent{}}, "no account_id"},
		"JWT-13 no sid":                    {members{"sid": absent{}}, "no sid"},
		"JWT-13 no gen":                    {members{"gen": absent{}}, "no gen"},
		"JWT-13 string exp":                {members{"exp": "1800000900"}, "malformed"},
		"JWT-13 string iat":                {members{"iat": "1800000000"}, "malformed"},
		"JWT-13 string nbf":                {members{"nbf": "1800000000"}, "malformed"},
		"JWT-13 string gen":                {members{"gen": "7"}, "malformed"},
		"JWT-13 fraction as gen":           {members{"gen": 7.5}, "malformed"},
		"JWT-13 array sub":                 {members{"sub": []string{"user-1"}}, "malformed"},
		"JWT-13 number as sub":             {members{"sub": 1}, "malformed"},
		"JWT-13 object aud":                {members{"aud": members{"a": audience}}, "malformed"},
		"JWT-13 number in aud":             {members{"aud": []any{audience, 1}}, "malformed"},
		"JWT-13 string roles":              {members{"roles": "admin"}, "malformed"},
		"JWT-13 client with sid":           {members{"sub": "app", "gen": absent{}, "auth_time": absent{}}, "a client with a session"},
		"JWT-13 client with gen":           {members{"sub": "app", "sid": absent{}, "auth_time": absent{}}, "a client with a session"},
		"JWT-13 client with auth_time":     {members{"sub": "app", "sid": absent{}, "gen": absent{}}, "a client with a session"},
		"JWT-18 a second over the maximum": {members{"exp": at(lifetime + time.Second)}, "made for too long a time"},
	} {
		t.Run(name, func(t *testing.T) {
			b.refusedFor(t, forge(goodHeader(b.key.ID), goodPayload().with(attack.changes), with(b.key)), attack.why)
		})
	}
	t.Run("JWT-13 claims are null", func(t *testing.T) {
		b.refusedFor(t, forge(goodHeader(b.key.ID), nil, with(b.key)), "no iss")
	})
}

func TestVerify_acceptsVariants(t *testing.T) {
	b := newBench(t)
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	for name, changes := range map[string]members{
		"JWT-04 array with ours":     {"aud": []string{"another", audience}},
		"JWT-02 exp within leeway":   {"iat": at(-lifetime), "exp": at(-leeway + time.Second)},
		"JWT-07 iat within leeway":   {"iat": at(leeway)},
		"JWT-07 nbf within leeway":   {"nbf": at(leeway)},
		"JWT-13 client for itself":   {"sub": "app", "sid": absent{}, "gen": absent{}, "auth_time": absent{}},
		"JWT-13 generation 0 is one": {"gen": 0},
		"JWT-18 exactly the maximum": {"exp": at(lifetime)},
	} {
		t.Run(name, func(t *testing.T) {
			b.accepted(t, forge(goodHeader(b.key.ID), goodPayload().with(changes), with(b.key)))
		})
	}
}

func TestVerify_refusesForeignKeys(t *testing.T) {
	b := newBench(t)
	evil := newKey(t, start)
	x := base64.RawURLEncoding.EncodeToString(evil.Private.Public().(ed25519.PublicKey))
	jwk := members{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": evil.ID}
	for name, attack := range map[string]struct {
		changes members
		why     string
	}{
		"JWT-08 another key under our kid": {members{}, "wrong algorithm or signature"},
		"JWT-08 jwk":                       {members{"jwk": jwk}, "wrong algorithm or signature"},
		"JWT-08 jwk with its kid":          {members{"jwk": jwk, "kid": evil.ID}, "unknown key"},
		"JWT-08 jku":                       {members{"jku": "https://evil.example/jwks"}, "wrong algorithm or signature"},
		"JWT-08 x5u":                       {members{"x5u": "https://evil.example/x5u"}, "wrong algorithm or signature"},
		"JWT-08 x5c":                       {members{"x5c": []string{x}}, "wrong algorithm or signature"},
		"JWT-09 another kid":               {members{"kid": evil.ID}, "unknown key"},
		"JWT-09 kid is a path":             {members{"kid": "../../x"}, "unknown key"},
		"JWT-09 kid is SQL":                {members{"kid": "' OR 1=1"}, "unknown key"},
		"JWT-09 kid is a number":           {members{"kid": 0}, "no key id"},
		"JWT-09 no kid":                    {members{"kid": absent{}}, "no key id"},
	} {
		t.Run(name, func(t *testing.T) {
			b.refusedFor(t, forge(goodHeader(b.key.ID).with(attack.changes), goodPayload(), with(evil)), attack.why)
		})
	}
	t.Run("JWT-08 foreign keys are ignored in a token of ours", func(t *testing.T) {
		header := goodHeader(b.key.ID).with(members{"jwk": jwk, "jku": "https://evil.example/jwks"})
		b.accepted(t, forge(header, goodPayload(), with(b.key)))
	})
	t.Run("JWT-13 crit", func(t *testing.T) {
		header := goodHeader(b.key.ID).with(members{"crit": []string{"b64"}, "b64": false})
		b.refusedFor(t, forge(header, goodPayload(), with(b.key)), "unknown critical header")
	})
}

func TestVerify_refusesTampering(t *testing.T) {
	b := newBench(t)
	parts := strings.Split(b.mint(t), ".")
	other := strings.Split(forge(goodHeader(b.key.ID), goodPayload().with(members{"sub": "user-2"}), with(newKey(t, start))), ".")
	t.Run("JWT-01 payload", func(t *testing.T) {
		b.refusedFor(t, parts[0]+"."+other[1]+"."+parts[2], "wrong algorithm or signature")
	})
	t.Run("JWT-01 signature", func(t *testing.T) {
		b.refusedFor(t, parts[0]+"."+parts[1]+"."+other[2], "wrong algorithm or signature")
	})
	t.Run("JWT-01 header", func(t *testing.T) {
		header := segment(goodHeader(b.key.ID).with(members{"extra": true}))
		b.refusedFor(t, header+"."+parts[1]+"."+parts[2], "wrong algorithm or signature")
	})
	t.Run("JWT-14 spare bits of the signature", func(t *testing.T) {
		// 64 bytes leave four unused bits in the last character: A, Q, g or w; any other is not canonical.
		last := parts[2][len(parts[2])-1]
		b.refusedFor(t, parts[0]+"."+parts[1]+"."+parts[2][:len(parts[2])-1]+string(last+1), "malformed")
	})
}

func TestVerify_takesTheCompactFormOnly(t *testing.T) {
	b := newBench(t)
	raw := b.mint(t)
	parts := strings.Split(raw, ".")
	flattened, err := json.Marshal(members{"protected": parts[0], "payload": parts[1], "signature": parts[2]})
	if err != nil {
		t.Fatal(err)
	}
	const form = "not in compact form"
	for name, attack := range map[string]struct{ raw, why string }{
		"JWT-14 empty":                {"", form},
		"JWT-14 JSON-serialised":      {string(flattened), form},
		"JWT-14 1 MiB of dots":        {strings.Repeat(".", 1<<20), "too long"},
		"JWT-14 8 KiB of dots":        {strings.Repeat(".", 8<<10), form},
		"JWT-14 a byte over the size": {strings.Repeat("A", 8<<10+1), "too long"},
		"JWT-14 two parts":            {parts[0] + "." + parts[1], form},
		"JWT-14 four parts":           {raw + "." + parts[2], form},
		"JWT-14 five parts as in JWE": {raw + ".AAAA.AAAA", form},
		"JWT-14 padding":              {raw + "=", form},
		"JWT-14 line end":             {raw + "\n", form},
		"JWT-14 leading blank":        {" " + raw, form},
		"JWT-14 other base64":         {parts[0] + "." + parts[1] + ".++//", form},
		"JWT-14 not UTF-8":            {raw + "\xff", form},
		"JWT-14 header is no JSON":    {"AAAA." + parts[1] + "." + parts[2], "malformed"},
		"JWT-14 header is null":       {segment(nil) + "." + parts[1] + "." + parts[2], "unknown algorithm"},
		"JWT-14 claims are no JSON":   {parts[0] + ".AAAA." + parts[2], "malformed"},
		"JWT-14 impossible base64":    {parts[0] + "." + parts[1] + ".A", "malformed"},
	} {
		t.Run(name, func(t *testing.T) { b.refusedFor(t, attack.raw, attack.why) })
	}
	if b.reloads != 0 {
		t.Fatalf("%d reloads for texts that are no tokens", b.reloads)
	}
}

// JWT-11: an ES256 token does not pass under the id of an Ed25519 key.
func TestVerify_bindsTheKeyToItsAlgorithm(t *testing.T) {
	b := newBench(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(text string) []byte {
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	raw := forge(goodHeader(b.key.ID).with(members{"alg": "ES256"}), goodPayload(), sign)
	b.refusedFor(t, raw, "wrong algorithm or signature")
}

// FuzzVerify: JWT-14, no text at all makes Verify panic, and none but the genuine token is accepted.
func FuzzVerify(f *testing.F) {
	config := goodConfig()
	made, err := token.New(config)
	if err != nil {
		f.Fatal(err)
	}
	key, err := token.NewKey(start)
	if err != nil {
		f.Fatal(err)
	}
	made.SetKeys([]token.Key{key})
	good := forge(goodHeader(key.ID), goodPayload(), with(key))
	f.Add(good)
	f.Add(forge(nil, nil, with(key)))
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := made.Verify(t.Context(), raw); (err == nil) != (raw == good) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
