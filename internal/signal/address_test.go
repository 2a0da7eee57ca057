package signal

import (
	"errors"
	"net/netip"
	"testing"
)

// SSF-11, API7: which addresses a push may connect to, decided when it connects.
func TestGuard(t *testing.T) {
	t.Parallel()
	allowed := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}
	check := guard(allowed)
	for _, address := range []string{
		"93.184.216.34:443", "8.8.8.8:443", "172.15.255.255:443", "172.32.0.0:443", "100.63.255.255:443", "100.128.0.0:443",
		"[2606:2800:220:1:248:1893:25c8:1946]:443", "[2a00:1450::1]:443",
		"10.20.3.4:443", "[::ffff:10.20.3.4]:443", "[fd00:1::5]:8443",
	} {
		if err := check("tcp", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{
		"0.0.0.0:443", "10.0.0.1:443", "10.21.0.1:443", "100.64.0.1:443", "127.0.0.1:443", "127.255.255.254:443", "169.254.169.254:80", "172.16.0.1:443",
		"172.31.255.255:443", "192.0.0.8:443", "192.0.2.1:443", "192.88.99.1:443", "192.168.1.1:443", "198.18.0.1:443", "198.51.100.7:443", "203.0.113.9:443",
		"224.0.0.1:443", "239.255.255.250:443", "240.0.0.1:443", "255.255.255.255:443",
		"[::]:443", "[::1]:443", "[::127.0.0.1]:443", "[::ffff:127.0.0.1]:443", "[::ffff:169.254.169.254]:443", "[64:ff9b::a00:1]:443", "[64:ff9b:1::1]:443",
		"[100::1]:443", "[2001::1]:443", "[2001:db8::1]:443", "[2002:a00:1::]:443", "[3fff::1]:443", "[5f00::1]:443", "[fc00::1]:443", "[fd00:2::1]:443",
		"[fe80::1%eth0]:443", "[fec0::1]:443", "[ff02::1]:443",
	} {
		err := check("tcp", address, nil)
		if _, refused := errors.AsType[*addressError](err); !refused {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := check("tcp", "router.example.com:443", nil); err == nil {
		t.Error("a name is no address")
	}
}

func TestCheckEndpoint_loopback(t *testing.T) {
	t.Parallel()
	for endpoint, insecure := range map[string]bool{"http://127.0.0.1:8080/x": true, "http://localhost/x": true, "http://[::1]/": true} {
		if err := checkEndpoint(endpoint, insecure); err != nil {
			t.Errorf("%s in development: %v", endpoint, err)
		}
		if err := checkEndpoint(endpoint, false); err == nil {
			t.Errorf("%s is no https URL", endpoint)
		}
	}
}
