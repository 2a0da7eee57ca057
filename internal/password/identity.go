package password

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// What ASP.NET Core Identity stores (dotnet/aspnetcore, PasswordHasher.cs). Version 2 is 0x00, the salt and the tag of 1,000
// iterations of HMAC-SHA1. Version 3 is 0x01 and three big-endian numbers: the function, the iterations and the size of the
// salt; then the salt and the tag.
const (
	identityV2           = 0x00
	identityV2Iterations = 1000
	identityV2Salt       = 16
	identityV2Tag        = 32
	identityV3           = 0x01
	identityV3Header     = 1 + 3*4
	maxIdentity          = identityV3Header + maxSaltSize + maxTagSize
)

// identityFunctions are the functions of version 3 by their numbers.
var identityFunctions = []string{"sha1", "sha256", "sha512"}

// parseIdentity decodes what ASP.NET Core Identity stores: base64 with padding. Errors never hold the string.
func parseIdentity(stored string) (pbkdf2Hash, error) {
	if len(stored) > base64.StdEncoding.EncodedLen(maxIdentity) {
		return pbkdf2Hash{}, errors.New("too long")
	}
	packed, err := base64.StdEncoding.Strict().DecodeString(stored)
	if err != nil || len(packed) == 0 {
		return pbkdf2Hash{}, errors.New("not base64, as ASP.NET Core Identity stores")
	}
	if base64.StdEncoding.EncodeToString(packed) != stored { // the decoder skips line breaks
		return pbkdf2Hash{}, errNotCanonical
	}
	switch {
	case packed[0] == identityV2 && len(packed) == 1+identityV2Salt+identityV2Tag:
		salt, tag := packed[1:1+identityV2Salt], packed[1+identityV2Salt:]
		return pbkdf2Hash{"aspnet-identity-v2", "sha1", identityV2Iterations, salt, tag}, nil
	case packed[0] == identityV3 && len(packed) >= identityV3Header:
		return parseIdentityV3(packed)
	}
	return pbkdf2Hash{}, errors.New("not of version 2 or 3 of ASP.NET Core Identity")
}

func parseIdentityV3(packed []byte) (pbkdf2Hash, error) {
	number := func(at int) uint32 { return binary.BigEndian.Uint32(packed[1+4*at:]) }
	function, iterations, saltSize, rest := number(0), number(1), number(2), packed[identityV3Header:]
	switch {
	case function > 2:
		return pbkdf2Hash{}, errors.New("of a function that ASP.NET Core Identity does not have")
	case iterations > maxRounds:
		return pbkdf2Hash{}, errIterations
	case saltSize > maxSaltSize || int(saltSize) > len(rest):
		return pbkdf2Hash{}, errors.New("salt is not of 8 to 64 bytes, or cut off")
	}
	h := pbkdf2Hash{"aspnet-identity-v3", identityFunctions[function], int(iterations), rest[:saltSize], rest[saltSize:]}
	return h, h.bounded()
}
