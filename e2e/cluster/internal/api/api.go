// Package api asks the API server the few things that tell whether the
// cluster is ready.
package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"pgexport.dev/e2e/cluster/internal/certificate"
)

// Client is an administrator of one API server.
type Client struct {
	server string
	http   http.Client
}

// New returns a client of the server at an address HOST:PORT, with the
// credentials in the folder pki.
func New(address, pki string) (*Client, error) {
	pair, authority, err := certificate.Read(pki, certificate.Admin)
	if err != nil {
		return nil, err
	}
	key, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &Client{
		server: "https://" + address,
		http: http.Client{
			Timeout: 5 * time.Second,
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{key}},
			},
		},
	}, nil
}

// Ready fails unless the API server is ready for all requests.
func (c *Client) Ready(ctx context.Context) error { return c.get(ctx, "/readyz", nil) }

// CanRunPods fails unless the controllers have prepared the default namespace.
func (c *Client) CanRunPods(ctx context.Context) error {
	return c.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
}

// NodeReady fails unless the node has said since the given time that it is
// ready.
func (c *Client) NodeReady(ctx context.Context, since time.Time) error {
	var node struct {
		Spec struct {
			Taints []struct{ Key, Effect string }
		}
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time
			}
		}
	}
	if err := c.get(ctx, "/api/v1/nodes/"+certificate.Node, &node); err != nil {
		return err
	}
	for _, taint := range node.Spec.Taints {
		return fmt.Errorf("the node is tainted: %s", taint.Key)
	}
	for _, condition := range node.Status.Conditions {
		switch {
		case condition.Type != "Ready":
		case condition.Status != "True":
			return errors.New(condition.Message)
		case condition.LastHeartbeatTime.Before(since.Truncate(time.Second)):
			return errors.New("the kubelet has not reported yet")
		default:
			return nil
		}
	}
	return errors.New("the kubelet has not registered the node yet")
}

// get reads a resource into value, if there is one.
func (c *Client) get(ctx context.Context, path string, value any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, response.Body)
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if value == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(value)
}
