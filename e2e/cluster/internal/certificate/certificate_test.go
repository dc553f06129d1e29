package certificate

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"
)

func TestCertificatesAreOfTheAuthorityAndForTheirUse(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	authority, err := NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	server, err := authority.Server("s", "10.0.0.1", "name")
	if err != nil {
		t.Fatal(err)
	}
	client, err := authority.Client("u", "g")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Certificate)
	verify := func(pair Pair, use x509.ExtKeyUsage, host string) error {
		block, _ := pem.Decode(pair.Certificate)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		_, err = certificate.Verify(x509.VerifyOptions{
			Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}, DNSName: host,
		})
		return err
	}
	for _, host := range []string{"10.0.0.1", "name"} {
		if err := verify(server, x509.ExtKeyUsageServerAuth, host); err != nil {
			t.Error(err)
		}
	}
	if verify(server, x509.ExtKeyUsageServerAuth, "other") == nil {
		t.Error("the server must not be another host")
	}
	if err := verify(client, x509.ExtKeyUsageClientAuth, ""); err != nil {
		t.Error(err)
	}
	if verify(client, x509.ExtKeyUsageServerAuth, "") == nil {
		t.Error("a client must not be a server")
	}
}
