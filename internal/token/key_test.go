package token_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/salesexec/credentials/internal/secret"
	"github.com/salesexec/credentials/internal/token"
)

// JWT-10: a key keeps its id through storage, so that tokens of before are still verified after it.
func TestKey_roundTrip(t *testing.T) {
	key := newKey(t, start)
	if !key.ActiveFrom.Equal(start) || !key.RetireAt.IsZero() {
		t.Errorf("active from %v, retired at %v", key.ActiveFrom, key.RetireAt)
	}
	text, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := token.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.ID != key.ID || !parsed.Private.Equal(key.Private) {
		t.Fatal("another key came back")
	}
	if newKey(t, start).ID == key.ID {
		t.Fatal("two keys with one id")
	}
}

// JWT-09: the id is the RFC 7638 thumbprint; key and value are those of RFC 8037 appendix A.
func TestKey_thumbprint(t *testing.T) {
	seed, err := base64.RawURLEncoding.DecodeString("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.ParseKey(encode(t, ed25519.NewKeyFromSeed(seed)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; key.ID != want {
		t.Fatalf("got %s, want %s", key.ID, want)
	}
}

func TestParseKey_refusesOtherTexts(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := encode(t, newKey(t, start).Private).Reveal()
	for name, text := range map[string]string{
		"JWT-11 empty":          "",
		"JWT-11 a phrase":       "correct horse battery staple",
		"JWT-11 RSA":            encode(t, rsaKey).Reveal(),
		"JWT-11 P-256":          encode(t, ecKey).Reveal(),
		"JWT-11 X25519":         encode(t, x25519).Reveal(),
		"JWT-11 two keys":       good + good,
		"JWT-11 text behind":    good + "x",
		"JWT-11 other label":    strings.ReplaceAll(good, "PRIVATE", "PUBLIC"),
		"JWT-11 damaged base64": strings.Replace(good, "MC4C", "AAAA", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := token.ParseKey(secret.New(text)); !errors.Is(err, token.ErrKey) {
				t.Fatalf("got %v, want ErrKey", err)
			}
		})
	}
}

// JWT-11: a key of a wrong size is refused and not a panic.
func TestKey_marshalRefusesUnsoundKeys(t *testing.T) {
	for _, key := range []token.Key{{}, {ID: "x", Private: make(ed25519.PrivateKey, 31)}} {
		if _, err := key.Marshal(); !errors.Is(err, token.ErrKey) {
			t.Fatalf("got %v, want ErrKey", err)
		}
	}
}

func encode(t *testing.T, private any) secret.Text {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}
