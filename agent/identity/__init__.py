"""Who the device is to others: its private key, its certificate, and how it gets and renews them.

Owns the key (`keys` for a file, `hardware` for a PKCS#11 token), the signing request (`request`), the
protocol to a certificate authority (`est`, RFC 7030), the folder in which key and certificate change
together (`folder`), and when to renew (`renewal`). It never connects to a broker and never decides
which of its certificates is trusted: that is the broker's business.
"""
