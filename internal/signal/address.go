package signal

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"unicode"
)

// checkEndpoint says what is wrong with the URL of a push endpoint. Whether its addresses may be called is decided at each
// connection: a name can be given another address at any time.
func checkEndpoint(endpoint string, insecure bool) error {
	const detail = "delivery.endpoint_url must be an https URL with a host, without user, password and fragment."
	if len(endpoint) > maxEndpoint || strings.ContainsFunc(endpoint, func(r rune) bool { return r > unicode.MaxASCII || r <= ' ' || r == 0x7f }) {
		return invalid("delivery.endpoint_url must have at most %d ASCII characters, none of them a space.", maxEndpoint)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return invalid(detail)
	}
	if u.Scheme == "https" || insecure && u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return invalid(detail)
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// inside are the networks that no push goes to unless they are allowed: whoever may create a stream could reach through it what
// only this host can reach (API7, ASVS 15.3.2). They are those that the IANA registries of special-purpose addresses do not call
// globally reachable (RFC 6890), and those in which an IPv4 address could hide.
func inside() []netip.Prefix {
	var networks []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
		"5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	} {
		networks = append(networks, netip.MustParsePrefix(text))
	}
	return networks
}

// addressError says that an address may not be called.
type addressError struct{ address netip.Addr }

func (e *addressError) Error() string {
	return fmt.Sprintf("signal: %s is not a public address, and in none of the allowed networks", e.address)
}

// guard returns what a net.Dialer asks before it connects to an address that a name stands for (SSF-11).
func guard(allowed []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	refused := inside()
	holds := func(networks []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("signal: where to connect to: %w", err)
		}
		host := to.Addr().Unmap().WithZone("")
		if holds(refused, host) && !holds(allowed, host) {
			return &addressError{host}
		}
		return nil
	}
}
