// Looks a name up so often, with so many milliseconds between, by Java's resolver: a line each. "srv SERVER NAME" asks by JNDI.
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Hashtable;
import javax.naming.NamingException;
import javax.naming.directory.Attribute;
import javax.naming.directory.InitialDirContext;

public class Look {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("srv")) {
            srv(args[1], args[2]);
            return;
        }
        for (int i = 0; i < Integer.parseInt(args[1]); i++) {
            StringBuilder line = new StringBuilder();
            try {
                line.append("ok");
                for (InetAddress one : InetAddress.getAllByName(args[0])) {
                    line.append(' ').append(one.getHostAddress());
                }
            } catch (UnknownHostException e) {
                line = new StringBuilder("err " + e.getMessage());
            }
            System.out.println(line);
            System.out.flush();
            Thread.sleep(Long.parseLong(args[2]));
        }
    }

    private static void srv(String server, String name) {
        Hashtable<String, String> settings = new Hashtable<>();
        settings.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        settings.put("java.naming.provider.url", "dns://" + server);
        try {
            Attribute all = new InitialDirContext(settings).getAttributes(name, new String[] {"SRV"}).get("SRV");
            System.out.println("ok " + (all == null ? 0 : all.size()));
        } catch (NamingException e) {
            System.out.println("err " + e.getMessage());
        }
    }
}
